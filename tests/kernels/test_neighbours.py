"""The kernel finds the nearest neighbours, ties as the loop for the CPU has them."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from phaze_ee.models.states import JetLayout
from tests.neighbours import by_sorting

COUNTS = {
    "one jet": [1],
    "no jets": [],
    "empty jets": [0, 5, 0, 0, 17, 0],
    "mixed": [1, 39, 2, 64, 16, 80],
    "longer than a tile": [129, 3],
}


def found(coordinates_VD: Tensor, counts: list[int], k: int, device: torch.device) -> Tensor:
    from phaze_ee.kernels.neighbours import nearest_neighbours

    layout = JetLayout(torch.tensor(counts, dtype=torch.int64).to(device))
    jets = (layout.jet_of(len(coordinates_VD)), layout.offset_N, layout.count_N)
    with np.errstate(invalid="ignore"):  # the interpreter computes inf − inf with NumPy
        index_Vk = nearest_neighbours(coordinates_VD.to(device), *jets, k)
    return index_Vk.cpu().sort(dim=1).values


def expected(coordinates_VD: Tensor, counts: list[int], k: int) -> Tensor:
    return by_sorting(coordinates_VD, counts, k).sort(dim=1).values


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS.keys())
@pytest.mark.parametrize(("dimensions", "k"), [(2, 16), (1, 1), (7, 3)])
def test_neighbours_are_the_nearest(
    counts: list[int], dimensions: int, k: int, dtype: torch.dtype, device: torch.device
) -> None:
    coordinates_VD = torch.randn(sum(counts), dimensions, dtype=dtype, generator=torch.Generator().manual_seed(1))
    assert torch.equal(found(coordinates_VD, counts, k, device), expected(coordinates_VD, counts, k))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_earlier_of_equally_distant_particles_comes_first(dtype: torch.dtype, device: torch.device) -> None:
    counts = [30, 70, 9]
    draw = torch.Generator().manual_seed(2)
    coordinates_VD = torch.randint(3, (sum(counts), 3), generator=draw).to(dtype)
    assert torch.equal(found(coordinates_VD, counts, 5, device), expected(coordinates_VD, counts, 5))


def test_more_neighbours_than_a_tile_of_many_dimensions(device: torch.device) -> None:
    counts = [70, 20]
    coordinates_VD = torch.randn(sum(counts), 33, generator=torch.Generator().manual_seed(3))
    assert torch.equal(found(coordinates_VD, counts, 64, device), expected(coordinates_VD, counts, 64))


@pytest.mark.parametrize("value", [math.nan, -math.nan, math.inf])
def test_what_is_not_a_number_stays_in_its_jet(value: float, device: torch.device) -> None:
    coordinates_VD = torch.randn(60, 3, generator=torch.Generator().manual_seed(4))
    clean_Vk = found(coordinates_VD, [30, 30], 16, device)
    coordinates_VD[7] = value
    index_Vk = found(coordinates_VD, [30, 30], 16, device)
    assert torch.equal(index_Vk[30:], clean_Vk[30:])
    assert ((index_Vk[:30] < 30) | (index_Vk[:30] == 60)).all()
