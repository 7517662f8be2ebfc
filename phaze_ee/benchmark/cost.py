"""The cost of each exit of a tagger: multiply-accumulates and parameters.

There are two counts of MACs. That of weaver adds normalisations and activations, and omits the neighbour search and
attention. The exact one is ``torch.utils.flop_counter`` over the walk itself, with attention in its unfused form,
which the counter sees. ParticleNet searches neighbours in feature space from block 1 on; this is part of the count.
At 128 particles and 19 inputs, the exits of the default ParticleNet cost 21.95, 124.71 and 533.66 M MACs, and the
full model 533.72 M.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from weaver.utils.flops_counter import get_model_complexity_info

from phaze_ee.models.tagger import Tagger
from phaze_ee.types import JetInputs, with_globals

UNIT = "multiply-accumulates (MACs) per jet"
COUNTER = "weaver.utils.flops_counter with count_functional=False: layers alone, no functional calls"


@dataclass(frozen=True)
class ExitCost:
    """The cost of leaving at one exit: everything up to it, with all heads up to it.

    ``macs`` is the exact number of multiplications of matrix products, with the neighbour search. ``weaver_macs`` is
    the sum over layers by weaver's counter. ``parameters`` is the number of parameters that the answers up to this exit
    depend on. ``head_macs`` are the MACs of the exit branch alone, with its link; None for the full model.
    """

    name: str
    macs: int
    weaver_macs: int
    parameters: int
    head_macs: int | None


def exit_costs(tagger: Tagger, *, particles: int | Sequence[int]) -> list[ExitCost]:
    """Return the cost of each exit for one jet, the full model last.

    Args:
        tagger: the network.
        particles: the particles of the jet; with several collections, those of each.

    All counts are of the network in evaluation mode; the tagger is not changed. A network that needs more particles for
    its neighbour search pads the jet, and the padding counts.
    """
    # weaver's counter adds hooks and attributes to the modules and changes their mode, so it gets a copy.
    tagger = copy.deepcopy(tagger).cpu().float().eval()
    inputs = _full_jet(tagger, [particles] if isinstance(particles, int) else particles)
    macs = _exact_macs(tagger.requires_grad_(False), inputs)
    parameters = _parameters(tagger.requires_grad_(), inputs)
    count_N = inputs.total_count_N
    heads = [int(tagger.head_macs(index, count_N)) for index in range(len(tagger.exit_stages))]
    return [
        ExitCost(name, macs[index], _weaver_macs(tagger, index, inputs), parameters[index], [*heads, None][index])
        for index, name in enumerate(tagger.exit_names)
    ]


def full_model_cost(tagger: Tagger, *, particles: int | Sequence[int]) -> ExitCost:
    """Return the cost of the full model without its exit heads, as published networks are counted.

    The heads that its answer needs, as with boosted exits, are included.
    """
    alone = tagger if tagger.link.evaluated(()) else Tagger(tagger.architecture, [])
    return exit_costs(alone, particles=particles)[-1]


def _full_jet(tagger: Tagger, particles: Sequence[int]) -> JetInputs:
    random = torch.Generator().manual_seed(0)
    channels = tagger.backbone.collections or {"": tagger.backbone.input_channels}
    parts = {}
    for (name, width), length in zip(channels.items(), particles, strict=True):
        points, features, vectors = (torch.randn(1, rows, length, generator=random) for rows in (2, width, 4))
        parts[name] = JetInputs(points, features, vectors, torch.ones(1, 1, length))
    first, *others = parts
    jets = replace(parts[first], more={name: parts[name] for name in others})
    if not tagger.globals_count:
        return jets
    return with_globals(jets, torch.randn(1, tagger.globals_count, generator=random)).padded()


def _exact_macs(tagger: Tagger, inputs: JetInputs) -> list[int]:
    # PyTorch counts a multiply-accumulate as two operations. The walk is lazy: at each exit the counter has exactly
    # what was computed up to there. On the CPU the counter does not know the fused attention, but the products that it
    # consists of. Its hooks need parameters without gradients.
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        return [counter.get_total_flops() // 2 for _ in tagger.walk(inputs)]


def _parameters(tagger: Tagger, inputs: JetInputs) -> list[int]:
    # A parameter belongs to an exit if the logits up to the exit have a gradient for it.
    parameters = list(tagger.parameters())
    counts = []
    total = torch.zeros(())
    for exit_ in tagger.walk(inputs):
        # The logits that train a link have no gradient for the heads, so both kinds of logits are summed.
        total = total + exit_.logits_NK.sum() + exit_.trained_NK.sum()
        gradients: Sequence[Tensor | None] = torch.autograd.grad(
            total, parameters, retain_graph=True, allow_unused=True
        )
        counts.append(sum(gradient.numel() for gradient in gradients if gradient is not None))
    return counts


@final
class _WalkToExit(nn.Module):
    """The walk of some jets as a module with a tensor as input, as weaver's counter needs it."""

    def __init__(self, tagger: Tagger, index: int, inputs: JetInputs) -> None:
        super().__init__()
        self.tagger = tagger
        self.index = index
        self.inputs = inputs

    def forward(self, features: Tensor) -> Tensor:
        walk = self.tagger.walk(replace(self.inputs, features=features))
        return next(exit_.logits_NK for exit_ in walk if exit_.index == self.index)


def _weaver_macs(tagger: Tagger, index: int, inputs: JetInputs) -> int:
    # Functional calls are not counted: the counter would replace functions of torch, and count each activation twice,
    # as a layer and as the function that the layer calls.
    macs, _ = get_model_complexity_info(
        _WalkToExit(tagger, index, inputs),
        (inputs.features,),
        print_per_layer_stat=False,
        as_strings=False,
        extra_config={"count_functional": False},
    )
    assert macs is not None  # the counter hides exceptions, but the same walk has just succeeded
    return int(macs)
