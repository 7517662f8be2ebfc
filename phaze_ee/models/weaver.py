"""Checks of weaver's modules before stages are put around them, and weaver's trimming of padding.

The arguments of a module are read from its layers, not recorded when it is constructed. A module may come from code
that runs before this package is imported, and a recorded ``version`` of ParticleTransformer would mean whatever the
installed weaver takes it to mean. :func:`built_again` checks that the arguments are complete.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from phaze_ee.errors import UsageError
from phaze_ee.machine import joined, process_index
from phaze_ee.models.states import fit_length
from phaze_ee.types import JetInputs, Jets, RaggedJets

_WARM = "past_its_first_calls"


def refuse(kind: str, reasons: Mapping[str, Any]) -> None:
    """Raise a UsageError with the first reason that applies to a network of this kind."""
    for reason, applies in reasons.items():
        if applies:
            raise UsageError(f"this {kind} cannot have exits: {reason}")


def is_head(head: object, *activations: type[nn.Module], other: type[nn.Module] | None = None) -> bool:
    """Return whether layers are the last ones of a network as weaver builds them: hidden ones, then a Linear.

    Args:
        head: the layers.
        activations: those that hidden layers may have.
        other: what else a hidden layer may begin with.
    """
    layers = list(head) if isinstance(head, nn.Sequential) else []
    hidden = all(is_hidden(layer, *activations, other=other) for layer in layers[:-1])
    return bool(layers) and isinstance(layers[-1], nn.Linear) and hidden


def is_hidden(layer: nn.Module, *activations: type[nn.Module], other: type[nn.Module] | None = None) -> bool:
    """Return whether a layer is a Linear, one of some activations and a Dropout, or begins with ``other``."""
    kinds = [type(part) for part in layer.children()] if isinstance(layer, nn.Sequential) else []
    return kinds[:1] == [other] or kinds in [[nn.Linear, activation, nn.Dropout] for activation in activations]


def built_again(module: nn.Module, arguments: Mapping[str, Any]) -> nn.Module:
    """Return a module of the same class, built from these arguments on the meta device: with shapes, without values.

    Raises:
        UsageError: names or shapes of its parameters differ from those of ``module``.
    """
    kind = type(module)
    with torch.device("meta"):
        twin = kind(**arguments)
    if _shapes(twin) != _shapes(module):
        raise UsageError(f"this {kind.__name__} cannot have exits: it was changed after it had been built")
    return twin


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in module.state_dict().items()}


class Trimmed(NamedTuple):
    """Padded jets, and the number of their particles where the host knows it without waiting for the device."""

    jets: JetInputs
    particles: int | None


def trim(inputs: Jets, trimmer: Any, *, training: bool, minimum_length: int) -> Trimmed:
    """Pad jets: in evaluation to the longest, in training by weaver's rule, which drops particles at random.

    In training the host waits for the device once if particles are dropped; else not at all for jets from files, and
    once for other ragged jets, for the longest.

    Args:
        inputs: the jets.
        trimmer: the SequenceTrimmer of the network, for the rule and its options in training. Its first five calls do
            not change the jets.
        training: whether this is a training step.
        minimum_length: smallest number of slots P of the result.
    """
    if not training:
        return Trimmed(fit_length(inputs, minimum_length), None)
    jets, particles = inputs.padded(), len(inputs.features_VC) if isinstance(inputs, RaggedJets) else None
    if _drops(trimmer):
        jets, particles = _trimmed_at_random(jets, trimmer)
    return Trimmed(jets if jets.mask.shape[-1] >= minimum_length else jets.padded(minimum_length), particles)


def _drops(trimmer: Any) -> bool:
    """Count a call of weaver's trimmer, and return whether it drops particles now."""
    if not trimmer.enabled:
        return False
    if not getattr(trimmer, _WARM, False):  # the counter is on the device, so it is read only until it is high enough
        if trimmer._counter < trimmer.warmup_steps:
            trimmer._counter.add_(1)
            return False
        setattr(trimmer, _WARM, True)
    return True


def _trimmed_at_random(inputs: JetInputs, trimmer: Any) -> Trimmed:
    """Do what weaver's trimmer does in training, with the same random numbers.

    Weaver's own form compares and slices with numbers of the device, and the host waits each time.
    """
    # All processes draw for the jets of all, so the result for a batch does not depend on how many share it.
    valid_M1P = joined(inputs.mask.float()).bool()
    share = torch.empty(1, device=valid_M1P.device).uniform_(*trimmer.target).clamp_(max=1)
    length = torch.quantile(valid_M1P.float().sum(dim=-1), share).long()
    if trimmer.round_to_32:
        tokens = ((length + trimmer.num_extra_tokens + 31) // 32 * 32).clamp(min=32)
        length = tokens.clamp(max=valid_M1P.shape[-1]) - trimmer.num_extra_tokens
    order_M1P = torch.rand_like(valid_M1P.float()).masked_fill_(~valid_M1P, -1).argsort(dim=-1, descending=True)
    order_N1P = order_M1P[process_index() * len(inputs) :][: len(inputs)]
    slots_1 = length.clamp(min=1)
    slots, particles = _read(torch.cat([slots_1, inputs.particle_count_N.minimum(slots_1).sum()[None]]))
    kept_N1P = order_N1P[..., :slots]
    jets = inputs.map(lambda tensor: tensor.gather(-1, kept_N1P.expand(-1, tensor.shape[1], -1)))
    return Trimmed(replace(jets, mask=jets.valid_N1P), particles)


def _read(numbers: Tensor) -> list[int]:
    """Return numbers of the device; this is the one place where trimming waits for it."""
    found: list[int] = numbers.tolist()
    return found
