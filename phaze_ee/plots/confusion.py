"""Confusion matrices."""

from collections.abc import Sequence
from math import ceil

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from phaze_ee.names import exit_title
from phaze_ee.plots.style import hep_style, simulation_label
from phaze_ee.plots.titles import class_titles, width
from phaze_ee.results.evaluation import EvaluationResults
from phaze_ee.shapes import Float

_CELL = 0.6  # inches
_LARGEST_NUMBER = 15  # points
_MOST_CLASSES_WITH_NUMBERS_IN_PANELS = 12
_USUAL_NAME = 4.0  # width of a name for which there is room, in units of the size of the font
_LETTER = 0.17  # size of the font of names, in inches


def row_percentages(counts: Sequence[Sequence[int]]) -> Float[np.ndarray, "K K"]:
    """Return the matrix with rows normalised to 100 %; NaN for a class without jets."""
    counts_KK = np.asarray(counts, dtype=float)
    jets_K1 = counts_KK.sum(axis=1, keepdims=True)
    percent_KK = np.full_like(counts_KK, np.nan)
    np.divide(100 * counts_KK, jets_K1, out=percent_KK, where=jets_K1 > 0)
    return percent_KK


@hep_style()
def confusion_figure(evaluation: EvaluationResults, exits: Sequence[str]) -> Figure:
    """Draw one panel per exit in ``exits``: its matrix, with rows normalised to 100 %."""
    columns = min(2, len(exits))
    classes = list(class_titles(evaluation.classes).values())
    numbers = len(exits) == 1 or len(classes) <= _MOST_CLASSES_WITH_NUMBERS_IN_PANELS
    scale = (1.0 if len(exits) == 1 else 0.75) if numbers else 0.5
    usual = _CELL * len(classes) + 1.5
    side = max(5.0, scale * usual)
    number_size = min(_LARGEST_NUMBER, 10.5 * side / usual) if numbers else None
    side += _LETTER * max(0.0, max(map(width, classes)) - _USUAL_NAME)
    rows = ceil(len(exits) / columns)
    figure = Figure(figsize=(columns * side + 1.2, rows * side))
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel, name in zip(panels.flat, exits, strict=False):
        percent_KK = row_percentages(evaluation.exits[name].confusion_matrix)
        image = _draw_matrix(panel, percent_KK, classes, number_size)
        panel.text(1, 1.01, exit_title(name), transform=panel.transAxes, ha="right", va="bottom", fontsize="small")
    for unused in panels.flat[len(exits) :]:
        unused.remove()
    figure.colorbar(
        image, ax=panels.flat[: len(exits)].tolist(), label="Share of the true class (%)", shrink=0.8, aspect=30
    )
    simulation_label(panels[0, 0])
    return figure


def _draw_matrix(
    axes: Axes, percent_KK: Float[np.ndarray, "K K"], classes: Sequence[str], number_size: float | None
) -> AxesImage:
    """Draw one matrix, with numbers in the cells if their size ``number_size`` (in points) is given."""
    axes.set_facecolor("0.85")  # shows where a class has no jets
    image = axes.imshow(percent_KK, cmap="Blues", vmin=0, vmax=100)
    positions = range(len(classes))
    axes.set_xticks(positions, classes, rotation=90, fontsize="small")
    axes.set_yticks(positions, classes, fontsize="small")
    axes.tick_params(which="both", length=0)
    axes.minorticks_off()
    axes.set_xlabel("Predicted class")
    axes.set_ylabel("True class")
    if number_size is not None:
        for (row, column), percent in np.ndenumerate(percent_KK):
            text = "–" if np.isnan(percent) else f"{percent:.1f}"
            colour = "white" if percent > 55 else "black"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=number_size)
    return image
