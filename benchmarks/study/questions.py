"""The questions of the study: cells, summaries, tables and figures."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from benchmarks.study import figures, q1_losses, q2_betas, q3_places, q4_ood, q5_leaving
from benchmarks.study.cells import Cell
from benchmarks.study.project import Study

Records = Sequence[Mapping[str, Any]]
Summary = Mapping[str, Any]


@dataclass(frozen=True)
class Question:
    """A question of the study.

    Attributes:
        cells: what to compute, the most telling first.
        summarise: from the records of cells to what docs/study keeps.
        tables: from a summary to Markdown.
        figure: from a summary to its figure.
    """

    cells: Callable[[Study], Iterable[Cell]]
    summarise: Callable[[Records], dict[str, Any]]
    tables: Callable[[Summary], str]
    figure: Callable[[Summary], Figure]


QUESTIONS: Mapping[int, Question] = {
    1: Question(q1_losses.cells, q1_losses.summarise, q1_losses.tables, figures.losses),
    2: Question(q2_betas.cells, q2_betas.summarise, q2_betas.tables, figures.betas),
    3: Question(q3_places.cells, q3_places.summarise, q3_places.tables, figures.places),
    4: Question(q4_ood.cells, q4_ood.summarise, q4_ood.tables, figures.ood),
    5: Question(q5_leaving.cells, q5_leaving.summarise, q5_leaving.tables, figures.leaving),
}
