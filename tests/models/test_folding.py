"""A layer with its ReLU, by oneDNN or not."""

import pytest
import torch

from phaze_ee.models.folding import Affine, Rectified


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [0, 1, 7, 32, 33])
def test_a_rectified_layer_is_the_layer_and_a_relu(dtype: torch.dtype, rows: int) -> None:
    weight, bias, row_VC = (torch.randn(*shape, dtype=dtype) for shape in ((24, 40), (40,), (rows, 24)))
    layer = Affine(weight, bias)
    with torch.inference_mode():
        rectified_VC = Rectified(layer, rows=32)(row_VC, row_VC.new_empty(rows, 40))
        expected_VC = (row_VC.double() @ weight.double() + bias.double()).relu()
    assert rectified_VC.dtype == dtype
    torch.testing.assert_close(
        rectified_VC.double(), expected_VC, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-12
    )
