"""ROC curves: background rejection against signal efficiency."""

from collections.abc import Sequence
from math import ceil, floor, sqrt

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from phaze_ee.names import exit_title
from phaze_ee.plots.style import exit_colour, hep_style, legend_below, simulation_label
from phaze_ee.plots.titles import class_titles
from phaze_ee.results.evaluation import EvaluationResults, RocCurve

# Rejections from fewer background jets, with a statistical error above 45 %, are not drawn.
FEWEST_BACKGROUND_JETS = 5


def rejection_curve(curve: RocCurve, background_jets: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return signal efficiencies and rejections 1 / (background efficiency), where enough background jets pass."""
    signal = np.asarray(curve.signal_efficiency)
    background = np.asarray(curve.background_efficiency)
    enough = background * background_jets >= FEWEST_BACKGROUND_JETS - 1e-6  # an efficiency is a rounded ratio
    return signal[enough], 1 / background[enough]


def rejection_error(rejection: NDArray[np.float64], background_jets: int) -> NDArray[np.float64]:
    """Return the binomial standard error of rejections R = 1/ε of N background jets: R √((1 − ε) / (ε N))."""
    error: NDArray[np.float64] = rejection * np.sqrt((rejection - 1) / background_jets)
    return error


@hep_style()
def roc_figure(evaluation: EvaluationResults) -> Figure:
    """Draw one panel per signal class, one line per exit with its statistical error; needs ROC curves."""
    signals = list(dict.fromkeys(curve.signal for exit_ in evaluation.exits.values() for curve in exit_.roc_curves))
    columns = ceil(sqrt(len(signals)))
    rows = ceil(len(signals) / columns)
    side = 6.5 if len(signals) == 1 else 3.6
    figure = Figure(figsize=(columns * side, rows * side * 0.9 + 0.6))
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for panel, signal in zip(panels.flat, signals, strict=False):
        panel.set_xlim(_lower_limit(_draw_signal(panel, evaluation, signal)), 1)
    for unused in panels.flat[len(signals) :]:
        unused.remove()
    legend_below(figure, list(panels.flat[: len(signals)]), columns=3 if columns < 3 else 6)
    simulation_label(panels[0, 0], f"{evaluation.jets:,} jets", panels[0, -1])
    return figure


def _draw_signal(axes: Axes, evaluation: EvaluationResults, signal: str) -> list[float]:
    """Draw one panel, and return the lowest signal efficiency of each visible curve."""
    begin, invisible, titles = [], [], class_titles(evaluation.classes)
    for index, (name, exit_) in enumerate(evaluation.exits.items()):
        for curve in exit_.roc_curves:
            if curve.signal == signal:
                background, jets = curve.background, evaluation.jets_per_class[curve.background]
                efficiency, rejection = rejection_curve(curve, jets)
                if len(efficiency) > 1:
                    colour = exit_colour(name, index)
                    axes.plot(efficiency, rejection, color=colour, label=exit_title(name))
                    error = rejection_error(rejection, jets)
                    axes.fill_between(efficiency, rejection - error, rejection + error, color=colour, alpha=0.12, lw=0)
                    begin.append(float(efficiency.min()))
                else:  # only the end of every curve, where all jets pass
                    invisible.append(exit_title(name))
    _finish_axes(axes, titles[signal], titles[background], jets)
    if invisible:
        who = "" if len(invisible) == len(evaluation.exits) else f"{', '.join(invisible)}:\n"
        _write_at_top(axes, f"{who}no point with ≥ {FEWEST_BACKGROUND_JETS} {titles[background]} jets")
    return begin


def _write_at_top(axes: Axes, text: str) -> None:
    """Write into the region with few background jets, which has no curves."""
    box = {"facecolor": "white", "edgecolor": "none", "pad": 2}
    axes.text(0.5, 0.95, text, transform=axes.transAxes, ha="center", va="top", fontsize="x-small", bbox=box)


def _lower_limit(efficiencies: Sequence[float]) -> float:
    """Return the lower limit of the efficiency axis: 0, or near the curves if all begin above one half."""
    lowest = min(efficiencies, default=0.0)
    return min(floor(10 * lowest) / 10, 0.9) if lowest > 0.5 else 0.0


def _finish_axes(axes: Axes, signal: str, background: str, background_jets: int) -> None:
    efficiency = np.linspace(0.001, 1, 200)
    axes.plot(efficiency, 1 / efficiency, ":", color="0.6", linewidth=1.2, zorder=1, label="guessing")
    limit = max(background_jets / FEWEST_BACKGROUND_JETS, 1.0)
    label = f"fewer than {FEWEST_BACKGROUND_JETS} {background} jets"
    axes.axhspan(limit, limit * 100, facecolor="none", edgecolor="0.8", hatch="///", linewidth=0, label=label)
    axes.set_yscale("log")
    axes.set_ylim(1, limit * 4)
    axes.set_xlabel(f"{signal} efficiency")
    axes.set_ylabel(f"{background} rejection")
