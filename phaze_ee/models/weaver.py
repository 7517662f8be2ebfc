"""Checks of weaver's modules before stages are put around them, and weaver's trimming of padding.

The arguments of a module are read from its layers, not recorded when it is constructed. A module may come from code
that runs before this package is imported, and a recorded ``version`` of ParticleTransformer would mean whatever the
installed weaver takes it to mean. :func:`built_again` checks that the arguments are complete.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from phaze_ee.errors import UsageError
from phaze_ee.machine import joined, process_index
from phaze_ee.models.states import fit_length
from phaze_ee.types import JetInputs, Jets


def refuse(kind: str, reasons: Mapping[str, Any]) -> None:
    """Raise a UsageError with the first reason that applies to a network of this kind."""
    for reason, applies in reasons.items():
        if applies:
            raise UsageError(f"this {kind} cannot have exits: {reason}")


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


def trim(inputs: Jets, trimmer: Any, *, training: bool, minimum_length: int) -> JetInputs:
    """Pad jets: in evaluation to the longest, in training by weaver's rule, which drops particles at random.

    Args:
        inputs: the jets.
        trimmer: the SequenceTrimmer of the network, for the rule and random numbers in training. Its first five calls
            do not change the jets.
        training: whether this is a training step.
        minimum_length: smallest number of slots P of the result.
    """
    if not training:
        return fit_length(inputs, minimum_length)
    trimmed = _trimmed_at_random(inputs.padded(), trimmer)
    return trimmed if trimmed.mask.shape[-1] >= minimum_length else fit_length(trimmed, minimum_length)


def _trimmed_at_random(inputs: JetInputs, trimmer: Any) -> JetInputs:
    # The trimmer gets the slot numbers of the jets of all processes, so the result for a batch does not depend on the
    # number of processes that share it.
    length = inputs.mask.shape[-1]
    mask_M1P = joined(inputs.mask.float())
    place_M1P = torch.arange(length, device=mask_M1P.device, dtype=mask_M1P.dtype).expand_as(mask_M1P)
    place_M1P, _, valid_M1P, _ = trimmer(place_M1P, mask=mask_M1P)
    own = slice(process_index() * len(inputs), (process_index() + 1) * len(inputs))
    place_N1P = place_M1P[own].long()
    moved = inputs.map(lambda tensor: tensor.gather(-1, place_N1P.expand(-1, tensor.shape[1], -1)))
    return replace(moved, mask=valid_M1P[own])
