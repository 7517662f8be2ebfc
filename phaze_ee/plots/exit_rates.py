"""How the choice of the exit depends on what a jet looks like."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from phaze_ee.dynamic_results import DynamicResults, ExitRates
from phaze_ee.plots.style import exit_colour, hep_style, legend_below, simulation_label
from phaze_ee.plots.titles import class_title, exit_title, observable_title

_SMALLEST = 1e-50  # p-value that is written


@hep_style()
def exit_rates_figure(dynamic: DynamicResults) -> Figure:
    """Draw one row a sample, one column an observable; ``dynamic`` must hold exit rates."""
    samples = list(dict.fromkeys(rates.sample for rates in dynamic.exit_rates))
    observables = list(dict.fromkeys(rates.observable for rates in dynamic.exit_rates))
    figure = Figure(figsize=(1 + 4 * len(observables), 1.6 + 3.6 * len(samples)))
    panels = figure.subplots(len(samples), len(observables), squeeze=False, sharey=True, sharex="col")
    empty = {(row, column) for row in range(len(samples)) for column in range(len(observables))}
    for rates in dynamic.exit_rates:
        place = samples.index(rates.sample), observables.index(rates.observable)
        empty.discard(place)
        _draw(panels[place], rates, list(dynamic.exits))
    for place in empty:
        panels[place].remove()
    for axes, sample in zip(panels[:, 0], samples, strict=True):
        axes.set_ylabel(f"Share leaving, {'all jets' if sample == 'all' else class_title(sample)}")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    for axes, observable in zip(panels[-1], observables, strict=True):
        axes.set_xlabel(observable_title(observable))
    panels[0, 0].set_ylim(0, 1)
    legend_below(figure, panels[0, 0], columns=4)
    simulation_label(panels[0, 0], f"{dynamic.jets:,} jets, {dynamic.policy.score}", panels[0, -1])
    return figure


def _draw(axes: Axes, rates: ExitRates, exits: Sequence[str]) -> None:
    for index, name in enumerate(exits):
        axes.errorbar(
            rates.centres,
            rates.rates[index],
            rates.errors[index],
            fmt="o-",
            color=exit_colour(name, index),
            markersize=4,
            linewidth=1.2,
            label=exit_title(name),
        )
    chance = f"p = {rates.p_value:.2g}" if rates.p_value > _SMALLEST else f"p < {_SMALLEST}"
    text = f"V = {rates.association:.2f}, {chance}"
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
    axes.text(0.96, 0.96, text, transform=axes.transAxes, ha="right", va="top", fontsize="x-small", bbox=box)
