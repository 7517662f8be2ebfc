"""A table as a frozen dataclass of equally long numpy arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Columns:
    """Base of the tables of this package: one array per column, one entry per object."""

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of the columns."""
        return tuple(field.name for field in fields(cls))

    @classmethod
    def concatenate(cls, tables: Sequence[Self]) -> Self:
        """Stack the rows of ``tables`` in the order given."""
        return cls(**{name: np.concatenate([getattr(table, name) for table in tables]) for name in cls.names()})

    def __len__(self) -> int:
        return len(getattr(self, self.names()[0]))

    def __getitem__(self, rows: Any) -> Self:
        """Return the rows of an index array, a mask or a slice."""
        return type(self)(**{name: getattr(self, name)[rows] for name in self.names()})


def wrap_angle(angle: Floats) -> Floats:
    """Return ``angle`` shifted by whole turns into [-pi, pi), in radians."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def sum_by(group: Integers, values: Floats, groups: int) -> Floats:
    """Return the sum of ``values`` in each of the groups 0 to ``groups - 1``."""
    return np.bincount(group, values, groups).astype(np.float64)


def log_normal(mean: Floats, sigma: Floats, generator: np.random.Generator) -> Floats:
    """Draw positive numbers with the given means and standard deviations; ``mean`` must be positive."""
    variance = np.log1p((sigma / mean) ** 2)
    return np.exp(np.log(mean) - 0.5 * variance + np.sqrt(variance) * generator.standard_normal(len(mean)))
