"""Layers behind a ReLU: the same numbers, whether zeros are left out or not."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phaze_ee.models.particle_net import edge_conv as module
from phaze_ee.models.particle_net.edge_conv import share_that_pays, sparse_layers
from phaze_ee.models.particle_net.folding import Affine

ATOL = {torch.float32: 2e-5, torch.float64: 1e-13}


def layer(inputs: int, outputs: int, dtype: torch.dtype = torch.float32) -> Affine:
    return Affine(torch.randn(inputs, outputs, dtype=dtype) / inputs**0.5, torch.randn(outputs, dtype=dtype))


def rows_with(positive: float, rows: int, columns: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    sign = torch.where(torch.rand(rows, columns) < positive, 1, -1)
    return sign * torch.randn(rows, columns, dtype=dtype).abs()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(
    seed=st.integers(0, 2**31),
    rows=st.integers(0, 70),
    widths=st.lists(st.integers(1, 150), min_size=1, max_size=4),
    positive=st.sampled_from([0.0, 0.03, 0.2, 0.5, 1.0]),
)
@settings(deadline=None, max_examples=60)
def test_layers_behind_relu_are_what_they_say(
    dtype: torch.dtype, seed: int, rows: int, widths: list[int], positive: float
) -> None:
    torch.manual_seed(seed)
    layers = tuple(layer(*pair, dtype) for pair in pairwise(widths))
    given_RC = rows_with(positive, rows, widths[0], dtype)
    expected_RC = given_RC.double()
    for each in layers:
        expected_RC = expected_RC.relu() @ each.weight.double() + each.bias.double()
    with torch.inference_mode():
        found_RC = sparse_layers(layers, given_RC.clone())
    assert found_RC.dtype == dtype
    torch.testing.assert_close(found_RC.double(), expected_RC, rtol=0, atol=ATOL[dtype])


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("rows", [0, 1, 33])
def test_both_ways_give_the_same(rows: int, dense: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    layers = (layer(65, 40), layer(40, 7))
    given_RC = rows_with(0.5, rows, 65)
    expected_RC = layers[1](layers[0](given_RC.relu()).relu())
    monkeypatch.setattr(module, "share_that_pays", lambda _: -1.0 if dense else 2.0)
    with torch.inference_mode():
        torch.testing.assert_close(sparse_layers(layers, given_RC.clone()), expected_RC, rtol=0, atol=1e-5)


def test_memory_serves_fewer_and_more_rows_than_before() -> None:
    torch.manual_seed(2)
    layers = (layer(64, 64),)
    for rows in (50, 3, 0, 700):
        given_RC = rows_with(0.2, rows, 64)
        with torch.inference_mode():
            found_RC = sparse_layers(layers, given_RC.clone())
        torch.testing.assert_close(found_RC, layers[0](given_RC.relu()), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("positive", "bags"), [(0.2, True), (0.6, False)])
@pytest.mark.skipif(not layer(1, 1).has_fast_bags, reason="this build of PyTorch has no FBGEMM")
def test_zeros_are_left_out_where_they_are_many(positive: float, bags: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    instead_RC = torch.zeros(512, 256)
    monkeypatch.setattr(module, "embedding_bag", lambda *_, **__: instead_RC)
    with torch.inference_mode():
        found_RC = sparse_layers((layer(256, 256),), rows_with(positive, 512, 256))
    assert (found_RC is instead_RC) is bags


def test_narrow_layers_have_less_to_gain() -> None:
    assert share_that_pays(layer(256, 4)) < share_that_pays(layer(256, 64)) < share_that_pays(layer(4, 256))


@pytest.mark.parametrize("share", [-1.0, 2.0])
@pytest.mark.parametrize("columns", [1, 64, 65])
def test_nan_stays_nan(columns: int, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "share_that_pays", lambda _: share)
    given_RC = rows_with(0.5, 33, columns)
    given_RC[7, columns - 1] = torch.nan
    given_RC[20] = torch.nan
    with torch.inference_mode():
        found_RC = sparse_layers((layer(columns, 40), layer(40, 7)), given_RC)
    bad_R = found_RC.isnan().all(dim=1)
    assert bad_R.nonzero().flatten().tolist() == [7, 20]
    assert found_RC[~bad_R].isfinite().all()
