"""Means over the jets of an epoch, which an interruption within it does not lose."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self, final

from torch import Tensor


@final
@dataclass
class RunningMeans:
    """The sums of some values over jets, and how many jets that were."""

    jets: int = 0
    sums: dict[str, float | Tensor] = field(default_factory=dict)  # tensors stay on their device until they are read

    def add(self, values: Mapping[str, float | Tensor], jets: int) -> None:
        """Add the means over some jets."""
        self.jets += jets
        for name, value in values.items():
            added = value.double() if isinstance(value, Tensor) else value
            self.sums[name] = self.sums.get(name, 0.0) + added * jets

    @property
    def means(self) -> dict[str, float | Tensor]:
        """The mean of each value; there must be jets."""
        return {name: value / self.jets for name, value in self.sums.items()}

    def copy(self) -> Self:
        return type(self)(self.jets, dict(self.sums))

    def state_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"jets": self.jets, "sums": {name: float(value) for name, value in self.sums.items()}}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Self:
        return cls(state["jets"], dict(state["sums"]))
