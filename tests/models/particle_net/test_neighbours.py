"""The search for neighbours, against a sort of all distances and against the form for GPUs."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from phaze_ee.models.particle_net.loops import find_nearest
from phaze_ee.models.particle_net.neighbours import in_groups
from phaze_ee.models.states import JetLayout
from tests.neighbours import by_sorting


def nearest(coordinates_VD: Tensor, counts: list[int], k: int) -> Tensor:
    index_Vk = torch.full((len(coordinates_VD), k), -1)
    find_nearest(coordinates_VD.numpy(), np.array(counts, dtype=np.int64), index_Vk.numpy())
    return index_Vk


def sorted_distances(coordinates_VD: Tensor, counts: list[int], k: int) -> Tensor:
    """The k smallest distances of each particle, infinite where there are fewer."""
    pieces = []
    for jet_PD in torch.split(coordinates_VD, counts):
        distance_PP = (jet_PD[:, None] - jet_PD).square().sum(dim=2).fill_diagonal_(math.inf)
        missing_Pk = torch.full((len(jet_PD), k), math.inf, dtype=jet_PD.dtype)
        pieces.append(torch.cat([distance_PP, missing_Pk], dim=1).sort(dim=1).values[:, :k])
    return torch.cat(pieces)


def distances_to(coordinates_VD: Tensor, index_Vk: Tensor) -> Tensor:
    beyond = torch.full_like(coordinates_VD[:1], math.inf)
    return (coordinates_VD[:, None] - torch.cat([coordinates_VD, beyond])[index_Vk]).square().sum(dim=2)


@given(
    seed=st.integers(0, 2**31),
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=5),
    dimensions=st.integers(1, 9),
    k=st.integers(1, 17),
    steps=st.sampled_from([2, 1000]),  # two: nearly all distances are equal to others
)
@settings(deadline=None, max_examples=100)
def test_neighbours_are_the_nearest(seed: int, counts: list[int], dimensions: int, k: int, steps: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    coordinates_VD = torch.randint(steps, (sum(counts), dimensions), generator=generator).double()
    index_Vk = nearest(coordinates_VD, counts, k)
    jet_V = torch.repeat_interleave(torch.tensor(counts))
    for particle, index_k in enumerate(index_Vk.tolist()):
        real = [index for index in index_k if index < len(jet_V)]
        assert len(set(real)) == len(real) == min(k, counts[jet_V[particle]] - 1)
        assert particle not in real
        assert all(jet_V[index] == jet_V[particle] for index in real)
    found_Vk = distances_to(coordinates_VD, index_Vk).sort(dim=1).values
    assert torch.equal(found_Vk, sorted_distances(coordinates_VD, counts, k))


def test_the_earlier_of_equally_distant_particles_comes_first() -> None:
    counts = [30, 0, 70, 1, 9]
    coordinates_VD = torch.randint(3, (sum(counts), 3), generator=torch.Generator().manual_seed(2)).double()
    assert torch.equal(nearest(coordinates_VD, counts, 12), by_sorting(coordinates_VD, counts, 12))


@pytest.mark.parametrize("dimensions", [2, 64])
def test_a_gpu_finds_the_same_neighbours(dimensions: int) -> None:
    counts = [5, 0, 39, 128, 1, 17]
    coordinates_VD = torch.randn(sum(counts), dimensions, dtype=torch.float64)
    expected_Vk = in_groups(coordinates_VD, JetLayout(torch.tensor(counts)), 16)
    assert torch.equal(nearest(coordinates_VD, counts, 16).sort(dim=1).values, expected_Vk.sort(dim=1).values)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_a_number_stays_in_its_jet(value: float) -> None:
    coordinates_VD = torch.randn(60, 3)
    coordinates_VD[7] = value
    index_Vk = nearest(coordinates_VD, [30, 30], 16)
    assert torch.equal(index_Vk[30:], nearest(coordinates_VD[30:], [30], 16) + 30)
    assert ((index_Vk[:30] < 30) | (index_Vk[:30] == 60)).all()
