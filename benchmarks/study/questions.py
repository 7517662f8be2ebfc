"""The questions of the study, and what their cells share."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks.study import q1_losses, q5_leaving
from benchmarks.study.cells import Cell
from benchmarks.study.frozen import FrozenNetwork
from benchmarks.study.jets import StudyJets


@dataclass(frozen=True)
class Study:
    """A study of one size.

    Attributes:
        folder: features and projects lie here.
        size: small or full.
        jets: the samples.
        weights: the published network; None: cells with a frozen network are left out.
    """

    folder: Path
    size: str
    jets: StudyJets
    weights: Path | None

    @cached_property
    def frozen(self) -> FrozenNetwork | None:
        return None if self.weights is None else FrozenNetwork(self.weights, self.jets, self.folder / "features")


def _losses(study: Study) -> Iterable[Cell]:
    return [] if study.frozen is None else q1_losses.frozen_cells(study.frozen)


def _leaving(study: Study) -> Iterable[Cell]:
    return [] if study.frozen is None else q5_leaving.cells(study.frozen)


QUESTIONS: Mapping[int, Callable[[Study], Iterable[Cell]]] = {1: _losses, 5: _leaving}
