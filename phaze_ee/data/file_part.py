"""The part of the rows of files that a purpose reads."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class FilePart:
    """The rows of each file that a purpose reads: from ``start`` up to ``stop``, where the whole file is 0 … 1."""

    start: float = 0
    stop: float = 1

    def rows_of(self, count: int) -> tuple[int, int]:
        """Return the first row, and the one after the last, of a file with ``count`` rows; rounded as in weaver."""
        return math.trunc(self.start * count), math.trunc(self.stop * count)

    @property
    def of_rows(self) -> str:
        """The part in words, after the name of a file, for errors; empty for whole files."""
        if self == WHOLE:
            return ""
        return f" from {100 * self.start:.4g} % to {100 * self.stop:.4g} % of their rows (c.validation_share)"


WHOLE = FilePart()
