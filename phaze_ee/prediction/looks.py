"""What ``monitor.json`` says, look by look, for the figure."""

from itertools import accumulate, pairwise

import numpy as np

from phaze_ee.exits.sequence import SeenLosses
from phaze_ee.prediction.watched import MonitorResults
from phaze_ee.results.watching import Look, Watched

# More would not be seen, and each takes some milliseconds.
_MOST = 200


def watched(results: MonitorResults) -> Watched:
    """Return the looks to draw: at most about 200, always with the first and the last of each part."""
    moves, totals = results.moves, results.totals
    jets = list(accumulate(file.losses.jets for file in results.files))
    ends = [0, *(move.files for move in moves), len(totals)]
    parts = [
        [_look(jets[index], totals[index], results.delta) for index in _some(start, end)]
        for start, end in pairwise(ends)
        if end > start
    ]
    values: dict[str, tuple[Look, str]] = {
        value: (_look(seen[-1].jets, seen[-1], delta), results.verdict_of(value))
        for value, (seen, delta) in results.sequences.items()
    }
    return Watched(
        parts=parts,
        values=values,
        by=results.by,
        epsilon=results.epsilon,
        confidence=1 - results.delta,
        verdict=results.verdict,
        moves=[(move.jets, move.after) for move in moves],
        selected=results.selection is not None,
    )


def _some(start: int, end: int) -> list[int]:
    count = min(_MOST, end - start)
    return sorted({round(float(index)) for index in np.linspace(start, end - 1, count)})


def _look(jets: int, losses: SeenLosses, delta: float) -> Look:
    low, high = losses.interval(delta)
    return Look(jets=jets, share=losses.share, low=low, high=high)
