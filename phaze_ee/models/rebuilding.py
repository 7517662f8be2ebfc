"""Whether stages can be put around a module of weaver's, and the module built again from its arguments."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from phaze_ee.errors import UsageError


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
