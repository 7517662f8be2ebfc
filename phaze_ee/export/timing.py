"""What a written file costs on this machine: one thread, one jet per call, as triggers run it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch

from phaze_ee.export.check import FileSession
from phaze_ee.types import JetInputs, RaggedJets

_JETS, _ROUNDS = 100, 3


@final
@dataclass(frozen=True)
class Timing:
    """Mean milliseconds of a jet, best of some rounds.

    Attributes:
        jets: the jets that were timed.
        among: the jets from which they were taken evenly.
        with_exits: milliseconds of a jet in the file.
        without: milliseconds of a jet in the full model, as a file without exits; None: the file has none.
    """

    jets: int
    among: int
    with_exits: float
    without: float | None


def timed(
    content: bytes,
    full: bytes | None,
    jets: Sequence[JetInputs | RaggedJets],
    names: Mapping[str, str],
    more: Mapping[str, Mapping[str, str]],
) -> Timing | None:
    """Time two files in turn on 100 jets, evenly from all, each with its own number of particles.

    Args:
        content: the bytes of the file.
        full: those of the file without exits; None: it is not timed.
        jets: batches of jets.
        names: the name of each kind of input.
        more: the same of further collections, by their names.

    Returns:
        The times; None: there are no jets.
    """
    total = sum(map(len, jets))
    if not total:
        return None
    single = _alone(jets, total)
    sessions = [FileSession(own, names, more) for own in (content, full) if own is not None]
    best = [float("inf")] * len(sessions)
    for _ in range(_ROUNDS):
        for place, session in enumerate(sessions):
            best[place] = min(best[place], _milliseconds(session, single))
    return Timing(len(single), total, best[0], None if full is None else best[1])


def _alone(jets: Sequence[JetInputs | RaggedJets], total: int) -> list[JetInputs]:
    """Return single jets, evenly from batches: files often have one class each."""
    wanted = {place * total // _JETS for place in range(_JETS)}
    first, single = 0, []
    for batch in jets:
        own = [row for row in range(len(batch)) if first + row in wanted]
        single += [batch.ragged().select(torch.tensor([row])).padded() for row in own]
        first += len(batch)
    return single


def _milliseconds(session: FileSession, jets: Sequence[JetInputs]) -> float:
    started = time.perf_counter()
    for jet in jets:
        session(jet)
    return 1e3 * (time.perf_counter() - started) / len(jets)
