"""Cost and accuracy of every set of exits, from mode place."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from phaze_ee.names import ExitStage, quantity
from phaze_ee.plots.dynamic_tradeoff import number_axis
from phaze_ee.plots.labels import place_labels
from phaze_ee.plots.style import PALETTE, hep_style, legend_below, simulation_label
from phaze_ee.results.placement import PlacementPoint, PlacementResults


@hep_style()
def placement_figure(results: PlacementResults) -> Figure:
    """Draw the points of all sets of exits, coloured by the number of exits, and the Pareto set as steps with errors.

    The star is the full model, the ring the recommended placement. The band reaches epsilon below the full model; it
    does not widen the axis. Labels name the sets of the Pareto set, each where it begins. The lower panel shows the
    differences of the Pareto set to the full model, with the errors of the same jets.
    """
    known = any(point.difference is not None for point in results.pareto)
    figure = Figure(figsize=(9, 9.5 if known else 7.5))
    axes, *others = figure.subplots(
        2 if known else 1, 1, sharex=True, squeeze=False, height_ratios=[2.6, 1][: 1 + known]
    ).flat
    for exits in sorted({len(points[0].exit_stages) for points in results.curves}):
        points = [point for curve in results.curves for point in curve if len(point.exit_stages) == exits]
        axes.plot(*_line(points), "o", color=_colour(exits), markersize=4, zorder=2, label=quantity(exits, "exit"))
    _mark_best(axes, results)
    (others or [axes])[-1].set_xlabel("Mean MACs per jet, share of the full model")
    axes.set_ylabel("Accuracy")
    axes.set_xscale("log")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    number_axis(axes.xaxis, FuncFormatter(lambda share, _: f"{100 * share:g}%"))
    _mark_epsilon(axes, results)
    for panel in others:
        _draw_differences(panel, results)
    legend_below(figure, axes, columns=3)
    simulation_label(axes, f"{results.judging_jets:,} jets")
    first = {tuple(point.exit_stages): point for point in reversed(results.pareto)}
    place_labels(axes, list(zip(*_line(list(first.values())), strict=True)), [_named(stages) for stages in first])
    return figure


def _mark_best(axes: Axes, results: PlacementResults) -> None:
    full, chosen, best = results.full_model, results.recommended, results.pareto
    axes.plot(*_line(best), color="0.25", drawstyle="steps-post", linewidth=1.5, zorder=3, label="Pareto set")
    errors = [point.accuracy_error for point in best]
    axes.errorbar(*_line(best), errors, fmt="none", ecolor="0.25", elinewidth=0.8, alpha=0.5, zorder=1)
    axes.plot(*_line([full]), "*", color="black", markersize=17, markeredgecolor="white", zorder=4, label="full model")
    axes.plot(
        *_line([chosen]), "o", markersize=13, markerfacecolor="none", markeredgecolor="black", markeredgewidth=2,
        zorder=5, label=f"recommended: {_named(chosen.exit_stages)}",
    )  # fmt: skip


def _draw_differences(axes: Axes, results: PlacementResults) -> None:
    """Draw how much the Pareto set and the recommended placement differ from the full model, in percentage points."""
    axes.axhspan(-100 * results.epsilon, 0, color="0.92", zorder=0)
    axes.axhline(0, color="0.45", linestyle="--", linewidth=1, zorder=1)
    for points, size, face in ((results.pareto, 4, "0.25"), ([results.recommended], 13, "none")):
        known = [point for point in points if point.difference is not None and point.difference_error is not None]
        shares = [point.macs_share for point in known]
        differences = [100 * (point.difference or 0) for point in known]
        errors = [100 * (point.difference_error or 0) for point in known]
        axes.errorbar(
            shares, differences, errors, fmt="o", color="0.25", markersize=size, markerfacecolor=face, capsize=2,
            elinewidth=1, zorder=3,
        )  # fmt: skip
    shown = [*results.pareto, results.recommended]
    lowest = min(100 * ((point.difference or 0) - (point.difference_error or 0)) for point in shown)
    axes.set_ylim(min(1.1 * lowest, -0.1), None)
    axes.set_ylabel("To full model (pp)")


def _mark_epsilon(axes: Axes, results: PlacementResults) -> None:
    limits, full = axes.get_ylim(), results.full_model.accuracy
    axes.axhspan(full - results.epsilon, full, color="0.92", zorder=0, label=f"within ε = {results.epsilon:g}")
    axes.set_ylim(limits)


def _named(stages: Sequence[ExitStage]) -> str:
    return ", ".join(map(str, stages)) or "no exit"


def _colour(exits: int) -> str:
    return PALETTE[(exits - 1) % len(PALETTE)]


def _line(points: Sequence[PlacementPoint]) -> tuple[list[float], list[float]]:
    return [point.macs_share for point in points], [point.accuracy for point in points]
