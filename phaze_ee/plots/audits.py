"""Audits of an exit policy: exits per class, exit rates against observables, and shapes of the mass."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, StrMethodFormatter

from phaze_ee.names import exit_title, observable_title
from phaze_ee.plots.style import PALETTE, exit_colour, hep_style, ink_on, legend_below, simulation_label
from phaze_ee.plots.titles import class_titles
from phaze_ee.results.policy import DynamicResults, ExitRates, MassAudit, MassShape

_SMALLEST = 1e-50  # smaller p-values are written as a limit
FEWEST_JETS = 10  # in a shape that is drawn
_SPACE_FOR_TEXT = 1.13  # upper end of the axis of shares, so that text covers no point
_SHORTEST = 0.06  # bar that has room for its number


@hep_style()
def exit_rates_figure(dynamic: DynamicResults) -> Figure:
    """Draw exit rates, one row per sample, one column per observable; ``dynamic`` must have exit rates."""
    samples = list(dict.fromkeys(rates.sample for rates in dynamic.exit_rates))
    observables = list(dict.fromkeys(rates.observable for rates in dynamic.exit_rates))
    figure = Figure(figsize=(1 + 4 * len(observables), 1.6 + 3.6 * len(samples)))
    panels = figure.subplots(len(samples), len(observables), squeeze=False, sharey=True, sharex="col")
    empty = {(row, column) for row in range(len(samples)) for column in range(len(observables))}
    for rates in dynamic.exit_rates:
        place = samples.index(rates.sample), observables.index(rates.observable)
        empty.discard(place)
        _draw_rates(panels[place], rates, list(dynamic.exits))
    for place in empty:
        panels[place].remove()
    titles = {"all": "all jets", **class_titles(dynamic.classes)}
    for axes, sample in zip(panels[:, 0], samples, strict=True):
        axes.set_ylabel(f"Share leaving, {titles[sample]}")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    for axes, observable in zip(panels[-1], observables, strict=True):
        axes.set_xlabel(observable_title(observable))
    panels[0, 0].set_ylim(0, _SPACE_FOR_TEXT)
    panels[0, 0].set_yticks(np.linspace(0, 1, 6))
    legend_below(figure, panels[0, 0], columns=4)
    simulation_label(panels[0, 0], f"{dynamic.jets:,} jets, {dynamic.policy.score}", panels[0, -1])
    return figure


def _draw_rates(axes: Axes, rates: ExitRates, exits: Sequence[str]) -> None:
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
    text = f"Cramér's V = {rates.association:.2f}, {chance}"
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
    axes.text(0.96, 0.97, text, transform=axes.transAxes, ha="right", va="top", fontsize="small", bbox=box)


@hep_style()
def exit_histogram_figure(dynamic: DynamicResults) -> Figure:
    """Draw one bar per class, divided by the exits where its jets leave, with numbers; empty without jets."""
    names = list(dynamic.policy.exits_per_class)
    counts_KE = np.array([dynamic.policy.exits_per_class[name] for name in names], dtype=float)
    share_KE = counts_KE / np.maximum(counts_KE.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(9, 2.8 + 0.45 * len(names)))
    axes = figure.add_subplot()
    start_K = np.zeros(len(names))
    for index, exit_ in enumerate(dynamic.exits):
        axes.barh(
            list(class_titles(names).values()),
            share_KE[:, index],
            left=start_K,
            color=exit_colour(exit_, index),
            label=exit_title(exit_),
            height=0.75,
        )
        _write_shares(axes, start_K, share_KE[:, index], ink_on(exit_colour(exit_, index)))
        start_K = start_K + share_KE[:, index]
    axes.set_xlim(0, 1)
    axes.invert_yaxis()
    axes.tick_params(axis="y", which="both", length=0)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("Share of the class that leaves at the exit")
    legend_below(figure, axes, columns=4)
    simulation_label(axes, f"{dynamic.jets:,} jets, {dynamic.policy.score}")
    return figure


def _write_shares(axes: Axes, start_K: npt.NDArray[np.float64], share_K: npt.NDArray[np.float64], ink: str) -> None:
    for place, (start, share) in enumerate(zip(start_K, share_K, strict=True)):
        if share >= _SHORTEST:
            text, middle = f"{100 * share:.0f} %", start + share / 2
            axes.text(middle, place, text, ha="center", va="center", color=ink, fontsize="x-small")


@hep_style()
def mass_shapes_figure(mass: MassAudit) -> Figure:
    """Draw the shapes, each normalised to one, and their ratios to the shape before the cut in a panel below.

    Bins in which no jet passes are empty.
    """
    figure = Figure(figsize=(8.5, 8.5))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.2))
    uncut = np.array(mass.uncut_counts)
    above.stairs(uncut / uncut.sum(), mass.edges, fill=True, color="0.85", label=f"no cut ({uncut.sum():,} jets)")
    for shape, name, colour, shift in (
        (mass.full_model, "full model", "black", -0.12),
        (mass.mixture, "leaving early", PALETTE[2], 0.12),
    ):
        _draw_shapes(above, below, np.array(mass.edges), uncut, shape, f"{name}, {_divergence(shape)}", colour, shift)
    background, signal = class_titles([mass.background, mass.signal]).values()
    above.set_ylabel(f"Share of {background} jets per bin")
    above.set_ylim(bottom=0)
    below.axhline(1, color="0.6", linewidth=1)
    below.set_ylabel("Ratio to\nno cut")
    below.set_yscale("log")
    below.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    below.set_xlabel(observable_title(mass.observable))
    legend_below(figure, above, columns=1)
    simulation_label(above, f"{background} after the cut for {100 * mass.signal_efficiency:g} % of {signal}")
    return figure


def _divergence(shape: MassShape) -> str:
    if shape.divergence is None:
        return "no jet passes"
    if shape.jets < FEWEST_JETS:
        return f"{shape.jets} jets pass, too few to draw"
    chance = f"random jets: {shape.floor:.3f}, 95 % below {shape.floor_95:.3f}"
    return f"{shape.jets:,} jets, JSD = {shape.divergence:.3f} ({chance})"


def _draw_shapes(
    above: Axes,
    below: Axes,
    edges: npt.NDArray[np.float64],
    uncut: npt.NDArray[np.int64],
    shape: MassShape,
    title: str,
    colour: str,
    shift: float,
) -> None:
    """Draw one shape with Poisson errors; ``shift`` (in bins) keeps the points of two shapes apart."""
    if 0 < shape.jets < FEWEST_JETS:
        above.plot([], [], "o", color=colour, markersize=4.5, label=title)
        return
    counts = np.array(shape.counts)
    centres = (edges[:-1] + edges[1:]) / 2 + shift * np.diff(edges)
    style: Any = {"fmt": "o", "color": colour, "markersize": 4.5, "linewidth": 1.2}
    some = counts > 0
    value, error = counts[some] / counts.sum(), np.sqrt(counts[some]) / counts.sum()
    above.errorbar(centres[some], value, error, label=title, **style)
    before = uncut[some] / uncut.sum()
    below.errorbar(centres[some], value / before, error / before, **style)
