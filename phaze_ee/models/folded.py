"""What is computed from the tensors of a module once, and whether one of them has changed since."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

from torch import Tensor, nn

Weights = TypeVar("Weights")


@dataclass(frozen=True)
class Folded(Generic[Weights]):
    """What was computed, the tensors of which it was made, and their version."""

    weights: Weights
    _made_from: list[Tensor]
    _version: list[int]

    @classmethod
    def of(cls, module: nn.Module, fold: Callable[[], Weights]) -> Self:
        """Compute weights of the parameters and buffers of a module."""
        made_from = [*module.parameters(), *module.buffers()]
        version = _version(made_from)  # before folding, so that a change meanwhile is noticed
        return cls(fold(), made_from, version)

    @property
    def is_current(self) -> bool:
        """Whether no tensor has changed."""
        return _version(self._made_from) == self._version


def _version(tensors: list[Tensor]) -> list[int]:
    """Return numbers that change if a tensor changes: by an optimiser, by loading, by a cast or a move."""
    # Tensors that were created in inference mode have no version.
    return [*map(Tensor.data_ptr, tensors), *(0 if tensor.is_inference() else tensor._version for tensor in tensors)]
