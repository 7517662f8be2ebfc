"""The kernel computes what the packed form computes on the CPU, for odd shapes too."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from phaze_ee.models.particle_net.edge_conv import edge_conv, edge_conv_gpu, particle_parts
from phaze_ee.models.particle_net.folding import Affine, FoldedEdgeConv

# Neighbours, channels of all edge layers. The first layer is split; two or more make one for the kernel or more.
SHAPES = {
    "two layers": (16, (8, 12)),
    "three layers": (7, (12, 96, 24)),
    "four layers": (3, (64, 64, 64, 64)),
    "five layers": (2, (5, 9, 33, 8, 3)),
    "one neighbour": (1, (16, 16, 16)),
    "most neighbours": (64, (8, 8)),
}


def block_of(k: int, channels: tuple[int, ...], *, shortcut: bool, inputs: int = 6) -> FoldedEdgeConv:
    draw = torch.Generator().manual_seed(sum(channels))

    def layer(before: int, after: int) -> Affine:
        weight = torch.randn(before, after, generator=draw) / math.sqrt(before)
        return Affine(weight, torch.randn(after, generator=draw) / 4)

    per_particle = layer(inputs, 2 * channels[0] + (channels[-1] if shortcut else 0))
    others = tuple(layer(before, after) for before, after in pairwise(channels))
    return FoldedEdgeConv(k, channels[0], per_particle, others)


def found(
    block: FoldedEdgeConv, features_VC: Tensor, neighbour_Vk: Tensor, device: torch.device, **how: bool
) -> Tensor:
    from phaze_ee.kernels import edge_conv as kernel

    parts = particle_parts(block, features_VC)
    layers = kernel.stack_layers([(layer.weight.to(device), layer.bias.to(device)) for layer in block.per_edge])
    with np.errstate(invalid="ignore"):  # the interpreter computes with NumPy
        out_VC = kernel.edge_conv(
            layers,
            parts.edge_SC.to(device),
            parts.shortcut_SC.to(device),
            parts.shortcut_column,
            neighbour_Vk.to(device),
            **how,
        )
    return out_VC.cpu()


def neighbours(particles: int, k: int) -> Tensor:
    """Any neighbours: particle V is padding."""
    return torch.randint(particles + 1, (particles, k), generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("shortcut", [True, False])
@pytest.mark.parametrize(("k", "channels"), SHAPES.values(), ids=SHAPES.keys())
def test_a_block_is_that_of_the_cpu(k: int, channels: tuple[int, ...], shortcut: bool, device: torch.device) -> None:
    block = block_of(k, channels, shortcut=shortcut, inputs=6 if shortcut else channels[-1])
    features_VC = torch.randn(21, block.per_particle.inputs, generator=torch.Generator().manual_seed(1))
    neighbour_Vk = neighbours(21, k)
    expected_VC = edge_conv(block, features_VC, neighbour_Vk)
    assert (expected_VC > 0).any()
    torch.testing.assert_close(found(block, features_VC, neighbour_Vk, device), expected_VC, rtol=1e-5, atol=1e-5)


def test_no_particles(device: torch.device) -> None:
    block = block_of(4, (8, 8), shortcut=True)
    assert found(block, torch.empty(0, 6), torch.empty(0, 4, dtype=torch.int64), device).shape == (0, 8)


def test_not_a_number_stays_so(device: torch.device) -> None:
    block = block_of(3, (8, 8), shortcut=True)
    features_VC = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))
    features_VC[4] = math.nan
    neighbour_Vk = neighbours(20, 3)
    expected_VC = edge_conv_gpu(block, particle_parts(block, features_VC), neighbour_Vk)
    out_VC = found(block, features_VC, neighbour_Vk, device)
    assert torch.equal(out_VC.isnan(), expected_VC.isnan())
    assert 0 < out_VC.isnan().sum() < out_VC.numel()


@pytest.mark.parametrize(("dtype", "error"), [(torch.float16, 1e-2), (torch.bfloat16, 8e-2)])
def test_operands_of_half_precision(dtype: torch.dtype, error: float, device: torch.device) -> None:
    from phaze_ee.kernels import edge_conv as kernel

    block = block_of(4, (16, 16, 16), shortcut=True)
    features_VC = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))
    neighbour_Vk = neighbours(20, 4)
    expected_VC = edge_conv(block, features_VC, neighbour_Vk)
    parts = particle_parts(block, features_VC)
    layers = kernel.stack_layers([(layer.weight.to(device), layer.bias.to(device)) for layer in block.per_edge], dtype)
    halved = [part.to(device, dtype) for part in (parts.edge_SC, parts.shortcut_SC)]
    found_VC, same_VC = (
        kernel.edge_conv(layers, edge_SC, shortcut_SC, parts.shortcut_column, neighbour_Vk.to(device)).cpu()
        for edge_SC, shortcut_SC in (halved, [part.float() for part in halved])
    )
    assert found_VC.dtype == torch.float32
    assert torch.equal(found_VC, same_VC), "the same numbers, in fewer bytes"
    difference_VC = found_VC - expected_VC
    assert 0 < difference_VC.abs().max() < error * expected_VC.abs().max()


def test_what_does_not_fit(device: torch.device) -> None:
    from phaze_ee.kernels.edge_conv import fits

    assert fits([torch.zeros(256, 256)], 64)
    assert not fits([], 16)
    assert not fits([torch.zeros(8, 8)], 65)
    assert not fits([torch.zeros(8, 257)], 16)
    assert not fits([torch.zeros(8, 8, dtype=torch.float64)], 16)
