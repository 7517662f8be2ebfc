"""What a figure of mode monitor shows: a share that is watched, with limits that hold at all looks together."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    """The share that is lost, and its limits, after a number of jets in all."""

    jets: int
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Watched:
    """All looks of a run.

    Attributes:
        parts: the looks between the moves of the policy; one part without a move.
        values: the last look of each value of a column that is watched apart, with its verdict; empty: none is.
        by: the name of the column.
        epsilon: the limit that was promised.
        confidence: of the limits at all looks together.
        verdict: of all jets so far.
        moves: the jets after which the policy moved, and to which step.
        selected: whether jets that a cut selects count alone.
    """

    parts: list[list[Look]]
    values: dict[str, tuple[Look, str]]
    by: str | None
    epsilon: float
    confidence: float
    verdict: str
    moves: list[tuple[int, int]]
    selected: bool
