"""The edges of padded slots, from one kernel, are those of plain torch."""

import pytest
import torch

from phaze_ee.models.particle_net.padding import padded_slots
from phaze_ee.models.states import JetLayout, PackedState


def batch(
    counts: tuple[int, ...], length: int, dimensions: int, dtype: torch.dtype, device: torch.device
) -> PackedState:
    coordinates_VD = torch.randn(sum(counts), dimensions, generator=torch.Generator().manual_seed(0), dtype=dtype)
    count_N = torch.tensor(counts, dtype=torch.long)
    return PackedState(coordinates_VD.to(device), coordinates_VD.to(device), JetLayout(count_N.to(device)), length)


def from_kernel(state: PackedState, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    from phaze_ee.kernels.padding import padding_edges

    neighbour_Nk = state.layout.count_N.new_full((len(state), k), -1)
    weight_N = state.features_VC.new_full((len(state),), -1)
    layout = state.layout
    padding_edges(state.coordinates_VD, layout.offset_N, layout.count_N, state.length, (neighbour_Nk, weight_N))
    return neighbour_Nk, weight_N


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("counts", "length", "dimensions", "k"),
    [
        ((3, 28, 0, 30, 29, 26, 27, 1), 30, 2, 4),
        ((20, 17, 5, 6), 21, 40, 16),
        ((257, 200, 256, 255), 258, 17, 3),
        ((2, 1, 0), 2, 1, 1),
        ((), 5, 2, 3),
        ((0, 0), 5, 2, 3),
    ],
)
def test_edges(
    counts: tuple[int, ...], length: int, dimensions: int, k: int, dtype: torch.dtype, device: torch.device
) -> None:
    state = batch(counts, length, dimensions, dtype, device)
    expected_Nk, padding_N = padded_slots(state, k)
    found_Nk, weight_N = from_kernel(state, k)
    assert torch.equal(found_Nk.sort(dim=1).values, expected_Nk.sort(dim=1).values)
    assert torch.equal(weight_N, padding_N.to(dtype))


def test_what_is_no_number_is_chosen_by_none(device: torch.device) -> None:
    state = batch((4, 3), 5, 2, torch.float32, device)
    state.coordinates_VD[:3] = torch.nan
    found_Nk, _ = from_kernel(state, 3)
    assert found_Nk.tolist() == [[3, 7, 7], [*found_Nk[1].tolist()[:2], 7]]
    assert set(found_Nk[1].tolist()[:2]) < {4, 5, 6}
