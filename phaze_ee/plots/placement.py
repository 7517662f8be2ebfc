"""Cost and accuracy of every set of exits, from mode place."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from phaze_ee.names import ExitStage
from phaze_ee.plots.style import PALETTE, hep_style, legend_below, simulation_label
from phaze_ee.results.placement import PlacementPoint, PlacementResults


@hep_style()
def placement_figure(results: PlacementResults) -> Figure:
    """Draw a thin line for each set of exits, coloured by the number of exits, and the Pareto set as steps.

    The star is the full model, the ring the recommended placement. The band reaches epsilon below the full model.
    """
    figure = Figure(figsize=(9, 7.5))
    axes = figure.add_subplot()
    for points in sorted(results.curves, key=lambda points: -len(points[0].exit_stages)):
        exits = len(points[0].exit_stages)
        axes.plot(
            *_line([*points, results.full_model]), "o-", color=_colour(exits), markersize=3, linewidth=0.9, alpha=0.7,
            zorder=2,
        )  # fmt: skip
    for exits in sorted({len(points[0].exit_stages) for points in results.curves}):
        axes.plot([], [], "o-", color=_colour(exits), markersize=4, label=f"{exits} exit" + "s" * (exits > 1))
    _mark_best(axes, results)
    axes.set_xlabel("Mean MACs per jet, share of the full model")
    axes.set_ylabel("Accuracy")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    legend_below(figure, axes, columns=3)
    simulation_label(axes, f"{results.judging_jets:,} jets")
    return figure


def _mark_best(axes: Axes, results: PlacementResults) -> None:
    full, chosen = results.full_model, results.recommended
    axes.axhspan(
        full.accuracy - results.epsilon, full.accuracy, color="0.9", zorder=0, label=f"within ε = {results.epsilon:g}"
    )
    axes.plot(*_line(results.pareto), color="0.25", drawstyle="steps-post", linewidth=1.8, zorder=3, label="Pareto set")
    axes.plot(*_line([full]), "*", color="black", markersize=17, markeredgecolor="white", zorder=4, label="full model")
    axes.plot(
        *_line([chosen]), "o", markersize=13, markerfacecolor="none", markeredgecolor="black", markeredgewidth=2,
        zorder=5, label=f"recommended: {_named(chosen.exit_stages)}",
    )  # fmt: skip


def _named(stages: Sequence[ExitStage]) -> str:
    return ", ".join(map(str, stages)) or "no exit"


def _colour(exits: int) -> str:
    return PALETTE[(exits - 1) % len(PALETTE)]


def _line(points: Sequence[PlacementPoint]) -> tuple[list[float], list[float]]:
    return [point.macs_share for point in points], [point.accuracy for point in points]
