from typing import Any

import pytest
import torch
from torch import nn
from weaver.nn.model.ParticleNet import ParticleNet as WeaverParticleNet

from phaze_ee.benchmark.cost import exit_costs, full_model_cost
from phaze_ee.models.links import EXIT_LINKS
from phaze_ee.models.particle_net.padded import ParticleNet
from phaze_ee.models.tagger import Tagger
from phaze_ee.names import ExitStage
from tests.jets import CHANNELS, CLASSES, small_tagger

NEIGHBOURS, WIDTHS, INPUTS, HIDDEN, JETCLASSES = 16, (64, 128, 256), 19, 256, 10


def jetclass_tagger() -> Tagger:
    """Return the network of the default configuration, with the 19 inputs of JetClass_full.yaml."""
    torch.manual_seed(0)
    conv_params = [(NEIGHBOURS, (width, width, width)) for width in WIDTHS]
    network = WeaverParticleNet(INPUTS, JETCLASSES, conv_params, [(HIDDEN, 0.1)], use_fusion=False)
    return Tagger(ParticleNet(network), [0, 1, 2])


def block_macs(particles: int, coordinates: int, channels: int, width: int) -> dict[str, int]:
    """Multiply-accumulates of one EdgeConv block whose shortcut changes the number of channels."""
    edges = particles * NEIGHBOURS
    return {
        "inner products of the neighbour search": coordinates * particles**2,
        "first convolution, on (particle, difference)": edges * 2 * channels * width,
        "second and third convolution": edges * 2 * width * width,
        "shortcut": particles * channels * width,
    }


def exact_macs(particles: int) -> list[int]:
    """Return the exact figures by closed formulas for the default network.

    The neighbour search of block 0 has 2 coordinates (η, φ), that of a later block all channels of the block before:
    dynamic graphs, as in arXiv:1902.08570. At 128 particles the first and last figures are 21.95 M and 533.72 M. For
    exits 1 and 2 one also finds 123.69 M and 530.57 M quoted: these belong to another network, which searches
    neighbours in (η, φ) in every block (62·128² and 62·128² + 126·128² fewer), and leave out the heads on the way.
    """
    costs, total, coordinates, channels = [], 0, 2, INPUTS
    for width in WIDTHS:
        total += sum(block_macs(particles, coordinates, channels, width).values())
        total += width * JETCLASSES  # the linear exit head
        costs.append(total)
        coordinates = channels = width
    return [*costs, total + WIDTHS[-1] * HIDDEN + HIDDEN * JETCLASSES]


def weaver_excess(particles: int) -> list[int]:
    """Return what weaver's counter has more than the exact count, without its count of functional calls.

    BatchNorm counts twice per value, ReLU once, a bias once per output; the neighbour search does not count.
    """
    excess, total, coordinates = [], 2 * INPUTS * particles, 2
    for width in WIDTHS:
        total += 3 * (2 + 1) * particles * NEIGHBOURS * width  # three convolutions: BatchNorm and ReLU
        total += (2 + 1) * particles * width  # BatchNorm of the shortcut, ReLU of the sum
        total += JETCLASSES - coordinates * particles**2
        excess.append(total)
        coordinates = width
    return [*excess, total + HIDDEN + HIDDEN + JETCLASSES]  # biases, and one ReLU


def test_default_network() -> None:
    costs = exit_costs(jetclass_tagger(), particles=128)
    macs = [cost.macs for cost in costs]
    assert [cost.name for cost in costs] == ["exit_0", "exit_1", "exit_2", "full_model"]
    assert macs == exact_macs(128) == [21_947_008, 124_708_736, 533_655_936, 533_724_032]
    heads_before = [0, 64 * JETCLASSES, (64 + 128) * JETCLASSES]
    search_in_eta_phi = [0, 62 * 128**2, (62 + 126) * 128**2]
    elsewhere = [value - less - head for value, less, head in zip(macs, search_in_eta_phi, heads_before, strict=False)]
    assert [round(value / 1e6, 2) for value in elsewhere] == [21.95, 123.69, 530.57]
    excess = [cost.weaver_macs - cost.macs for cost in costs]
    assert excess == weaver_excess(128)
    assert [round(100 * extra / exact, 1) for extra, exact in zip(excess, macs, strict=True)] == [5.4, 2.0, 1.0, 1.0]


def test_parameters_are_cumulative_and_the_last_count_is_the_whole_network() -> None:
    tagger = jetclass_tagger()
    network: Any = tagger.backbone.mod
    edge_convs, heads = list(network.edge_convs), list(tagger.heads)

    def count(*modules: nn.Module) -> int:
        return sum(parameter.numel() for module in modules for parameter in module.parameters())

    costs = exit_costs(tagger, particles=20)
    expected = [count(network.bn_fts, *edge_convs[:used], *heads[:used]) for used in (1, 2, 3)]
    assert [cost.parameters for cost in costs] == [*expected, count(tagger)]


def test_the_cost_grows_with_the_particles_but_the_parameters_do_not() -> None:
    short, long = (exit_costs(small_tagger(), particles=particles) for particles in (10, 40))
    assert all(
        few.macs < many.macs and few.weaver_macs < many.weaver_macs for few, many in zip(short, long, strict=True)
    )
    assert [few.parameters for few in short] == [many.parameters for many in long]


def test_exits_left_out_are_not_paid_for() -> None:
    stages: tuple[ExitStage, ...] = ("input", 1)
    first, second, full = exit_costs(small_tagger(stages), particles=12)
    assert first.macs == CHANNELS * CLASSES  # one linear layer on the mean over the particles
    every = exit_costs(small_tagger(), particles=12)
    assert second.macs == every[1].macs - 8 * CLASSES + CHANNELS * CLASSES
    assert full.parameters == sum(parameter.numel() for parameter in small_tagger(stages).parameters())


def test_the_cost_of_a_branch_is_what_it_adds() -> None:
    stages: tuple[ExitStage, ...] = ("input", 1)
    costs = exit_costs(small_tagger(stages), particles=12)
    assert [cost.head_macs for cost in costs] == [CHANNELS * CLASSES, 8 * CLASSES, None]


@pytest.mark.parametrize("link", EXIT_LINKS)
def test_every_parameter_of_linked_exits_counts_by_the_last_exit(link: str) -> None:
    tagger = Tagger(small_tagger().backbone, (0, 1, 2), link=link).double()
    first, *_, full = exit_costs(tagger, particles=12)
    assert full.parameters == sum(parameter.numel() for parameter in tagger.parameters())
    weights_of_its_ensemble = 1 + CLASSES if link == "cascade" else 0
    assert first.parameters == exit_costs(small_tagger(), particles=12)[0].parameters + weights_of_its_ensemble


def test_the_tagger_and_torch_are_left_as_they_were() -> None:
    tagger = small_tagger().train()
    tagger.requires_grad_(False)
    watched = (torch, torch.Tensor, nn.functional)
    functions = [{name: value for name, value in vars(space).items() if callable(value)} for space in watched]
    attributes = {name: (set(vars(module)), module.training) for name, module in tagger.named_modules()}
    exit_costs(tagger, particles=12)
    after = [{name: value for name, value in vars(space).items() if callable(value)} for space in watched]
    assert after == functions
    assert {name: (set(vars(module)), module.training) for name, module in tagger.named_modules()} == attributes
    assert not any(module._forward_hooks for module in tagger.modules())
    assert not any(parameter.requires_grad for parameter in tagger.parameters())


def test_the_full_model_costs_what_the_published_network_costs() -> None:
    torch.manual_seed(0)
    conv_params = [(NEIGHBOURS, (width, width, width)) for width in WIDTHS]
    network = WeaverParticleNet(INPUTS, JETCLASSES, conv_params, [(HIDDEN, 0.1)], use_fusion=False)
    cost = full_model_cost(Tagger(ParticleNet(network), [0, 1, 2], "deep_sets"), particles=128)
    assert cost.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert round(cost.macs / 1e6, 2) == 533.72


def test_heads_that_the_full_model_needs_are_counted() -> None:
    boosted = Tagger(small_tagger().backbone, (0, 1, 2), link="boosted").double()
    assert full_model_cost(boosted, particles=12) == exit_costs(boosted, particles=12)[-1]
