"""Whether stages can be put around a module of weaver's, and the module built again from its arguments."""

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
    """Raise a UsageError with the first of the reasons that is true of a network of this kind."""
    for reason, applies in reasons.items():
        if applies:
            raise UsageError(f"this {kind} cannot have exits: {reason}")


def built_again(module: nn.Module, arguments: Mapping[str, Any]) -> nn.Module:
    """Return a module of the same class with these arguments, on the meta device: it has shapes, but no values.

    Raises:
        UsageError: its parameters are not those of ``module`` in name and shape.
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
        trimmer: the network's SequenceTrimmer, whose rule and random numbers are used in training. Its first five calls
            leave the jets as they are.
        training: which of the two.
        minimum_length: the slots P that are left at least.
    """
    if not training:
        return fit_length(inputs, minimum_length)
    trimmed = _trimmed_at_random(inputs.padded(), trimmer)
    return trimmed if trimmed.mask.shape[-1] >= minimum_length else fit_length(trimmed, minimum_length)


def _trimmed_at_random(inputs: JetInputs, trimmer: Any) -> JetInputs:
    # The trimmer sees where particles stand, of the jets of all processes that train together: what it does with a
    # batch does not depend on how many processes share it.
    length = inputs.mask.shape[-1]
    mask_M1P = joined(inputs.mask.float())
    place_M1P = torch.arange(length, device=mask_M1P.device, dtype=mask_M1P.dtype).expand_as(mask_M1P)
    place_M1P, _, valid_M1P, _ = trimmer(place_M1P, mask=mask_M1P)
    own = slice(process_index() * len(inputs), (process_index() + 1) * len(inputs))
    place_N1P = place_M1P[own].long()
    moved = inputs.map(lambda tensor: tensor.gather(-1, place_N1P.expand(-1, tensor.shape[1], -1)))
    return replace(moved, mask=valid_M1P[own])
