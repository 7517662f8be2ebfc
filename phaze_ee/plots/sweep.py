"""The objective of a sweep against each varied option."""

from math import ceil

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, StrMethodFormatter

from phaze_ee.names import FULL_MODEL, brief, quantity
from phaze_ee.plots.style import PALETTE, hep_style, legend_below, simulation_label
from phaze_ee.results.sweep import SweepResults, SweepTrial

_LONGEST_TICK = 20
_DECADE = 10
_TITLES = {FULL_MODEL: "Validation accuracy", "exits": "Mean validation accuracy"}


@hep_style()
def sweep_figure(results: SweepResults) -> Figure:
    """Draw the objective of the complete trials, by trial and against each option. There must be a complete trial.

    The line of the first panel is the best so far. The star is the best trial.
    """
    complete = [trial for trial in results.trials if trial.state == "complete"]
    count = 1 + len(results.space)
    columns = count if count <= 3 else 2 if count == 4 else 3
    rows = ceil(count / columns)
    figure = Figure(figsize=(1.5 + 4 * columns, 1.5 + 4 * rows))
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    _draw_history(panels.flat[0], complete)
    for axes, name in zip(panels.flat[1:count], results.space, strict=True):
        _draw_option(axes, results, name, complete)
    panels[0, 0].margins(y=0.1)  # the panels share it
    for axes in panels.flat[count:]:
        axes.axis("off")
    for axes in panels[:, 0]:
        axes.set_ylabel(_TITLES.get(results.objective, f"Accuracy within {results.objective} MACs"))
    legend_below(figure, panels.flat[0], columns=3)
    note = f"{results.project}, {quantity(len(complete), 'trial')}"
    simulation_label(panels.flat[0], note, panels[0, -1])
    return figure


def _draw_history(axes: Axes, complete: list[SweepTrial]) -> None:
    values = [trial.objective for trial in complete if trial.objective is not None]
    numbers = [float(trial.project.rpartition("_")[2]) for trial in complete]
    best = [max(values[: index + 1]) for index in range(len(values))]
    axes.step(numbers, best, where="post", color="0.6", linewidth=1.2, label="best so far")
    _draw_points(axes, numbers, values)
    axes.set_xlabel("Trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.tick_params(axis="x", which="minor", length=0)


def _draw_option(axes: Axes, results: SweepResults, name: str, complete: list[SweepTrial]) -> None:
    log = results.space[name].log
    drawn = [trial.values[name] for trial in complete]
    values = [trial.objective for trial in complete if trial.objective is not None]
    if log is None:
        choices = list(dict.fromkeys(map(str, drawn)))
        _draw_points(axes, [float(choices.index(str(value))) for value in drawn], values)
        axes.set_xticks(
            range(len(choices)), [brief(choice, _LONGEST_TICK) for choice in choices], rotation=20, ha="right"
        )
        axes.set_xlim(-0.5, len(choices) - 0.5)
        axes.tick_params(axis="x", which="minor", length=0)
    else:
        _draw_points(axes, [float(value) for value in drawn], values)
        axes.set_xscale("log" if log else "linear")
        low, high = axes.get_xlim()
        if log and high < _DECADE * low:  # without a power of ten, or with one
            axes.xaxis.set_major_locator(MaxNLocator(3))
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(name)


def _draw_points(axes: Axes, positions: list[float], values: list[float]) -> None:
    best = values.index(max(values))
    axes.plot(positions, values, "o", color=PALETTE[0], label="trial")
    axes.plot(
        positions[best], values[best], "*", color=PALETTE[2], markersize=16, label="best", clip_on=False, zorder=5
    )
