"""The figures of docs/STUDY.md."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from phaze_ee.plots.style import PALETTE, hep_style, legend_below, simulation_label

SAMPLES = {"test": "test", "other_mode": "other mode", "alpha_s": r"$\alpha_s$ = 0.16", "tracks": "tracks lost"}
BETA_SERIES = {"exits": "mean of the exits", "full_model": "full model"}
_SHOWN = 8
_CHEAPEST = 8  # sets of a network that are drawn, beside each exit alone


@hep_style()
def losses(summary: Mapping[str, Any]) -> Figure:
    """Draw the mean accuracy of the exits of each head and loss, on each sample, with the spread over seeds."""
    methods = sorted(summary["methods"], key=lambda method: _over_exits(method, "test")["mean"])
    figure = Figure(figsize=(10, 2 + 0.4 * len(methods)))
    axes = figure.add_subplot()
    for number, (sample, title) in enumerate(SAMPLES.items()):
        places = [place - (number - 1.5) * 0.18 for place in range(len(methods))]
        values = [_over_exits(method, sample) for method in methods]
        _points(axes, places, values, title, number, horizontal=True)
    axes.set_yticks(range(len(methods)), [f"{one['regime']}, {one['head']}, {one['loss']}" for one in methods])
    axes.tick_params(axis="y", which="minor", left=False, right=False)
    axes.grid(axis="y", linewidth=0.4)
    axes.set_xlabel("Accuracy, mean of the exits")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    legend_below(figure, axes, columns=4)
    simulation_label(axes)
    return figure


@hep_style()
def leaving(summary: Mapping[str, Any]) -> Figure:
    """Draw the permutation importance of the observables, and the rejection of exit, cut and trees."""
    figure = Figure(figsize=(12, 6))
    left, right = figure.subplots(1, 2)
    ranked = sorted(summary["importance"].items(), key=lambda item: item[1]["mean"])[-_SHOWN:]
    values = [value["mean"] for _, value in ranked]
    left.barh(range(len(ranked)), values, xerr=[value["spread"] or 0.0 for _, value in ranked], color=PALETTE[0])
    left.set_yticks(range(len(ranked)), [name for name, _ in ranked])
    left.tick_params(axis="y", which="minor", left=False, right=False)
    left.set_xlabel("Loss of AUC when permuted")
    signals = list(summary["cuts"])
    for number, rule in enumerate(("exit", "cut", "trees")):
        found = [summary["cuts"][signal]["rejected"][rule] for signal in signals]
        places = [place + (number - 1) * 0.2 for place in range(len(signals))]
        label = {"exit": "first exit", "cut": "plain cut", "trees": "trees"}[rule]
        _points(right, places, found, label, number)
    _name_axes(right, [name.removeprefix("label_") for name in signals], "Rejected QCD jets", rotation=60)
    legend_below(figure, right, columns=3)
    simulation_label(left)
    return figure


@hep_style()
def betas(summary: Mapping[str, Any]) -> Figure:
    """Draw the accuracy of full model and exits for each setting of β, with the spread over seeds.

    A column is a largest β, a colour a schedule.
    """
    settings = summary["settings"]
    largest = list(dict.fromkeys(one["beta"] for one in settings))
    zero = sorted({one["zero_share"] for one in settings})
    figure = Figure(figsize=(4 * len(largest), 7))
    panels = figure.subplots(2, len(largest), sharex=True, sharey="row", squeeze=False)
    for row, (score, title) in zip(panels, BETA_SERIES.items(), strict=True):
        for axes, beta in zip(row, largest, strict=True):
            chosen = [one for one in settings if one["beta"] == beta]
            for number, schedule in enumerate(dict.fromkeys(one["schedule"] for one in settings)):
                own = [one for one in chosen if one["schedule"] == schedule]
                place = [zero.index(one["zero_share"]) + (number - 1) * 0.15 for one in own]
                _points(axes, place, [one[score] for one in own], schedule, number)
            _name_axes(
                axes, [f"{100 * share:.0f} %" for share in zero], "" if axes is not row[0] else f"Accuracy, {title}"
            )
            axes.margins(x=0.2)
    for axes, beta in zip(panels[1], largest, strict=True):
        axes.set_xlabel(f"epochs at 0; largest β = {beta:g}")
    legend_below(figure, panels[0, 0], columns=3)
    simulation_label(panels[0, 0])
    return figure


@hep_style()
def places(summary: Mapping[str, Any]) -> Figure:
    """Draw the mean cost at a loss of 1 % in accuracy: of each exit alone, and of the cheapest sets of each network."""
    shown = {name: _sets_by_cost(network) for name, network in summary["networks"].items()}
    rows = -(-len(shown) // 2)
    columns = min(2, len(shown))
    figure = Figure(figsize=(6 * columns, 1 + 0.33 * rows * max(map(len, shown.values()))))
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes, (name, sets) in zip(panels.flat, shown.items(), strict=False):
        for number, (several, label) in enumerate(((False, "one exit"), (True, "several exits"))):
            places = [place for place, one in enumerate(sets) if ("," in one["stages"]) == several]
            _points(axes, places, [sets[place]["cost"] for place in places], label, number, horizontal=True)
        axes.set_yticks(range(len(sets)), [one["stages"] for one in sets], fontsize="x-small")
        axes.tick_params(axis="y", which="minor", left=False, right=False)
        axes.grid(axis="y", linewidth=0.4)
        axes.invert_yaxis()
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xlabel(f"{name}: MACs, share of the full model", fontsize="small")
    for axes in panels.flat[len(shown) :]:
        axes.set_axis_off()
    panels[0, 0].set_ylabel("Exits after")
    legend_below(figure, panels[0, 0], columns=2)
    simulation_label(panels[0, 0])
    return figure


@hep_style()
def ood(summary: Mapping[str, Any]) -> Figure:
    """Draw the AUROC of each score for each kind of jets, with the spread over trainings."""
    kinds = summary["kinds"]
    names = list(next(iter(kinds.values()))["auroc"])
    series = {name: [found["auroc"][name] for found in kinds.values()] for name in names}
    titles = [SAMPLES.get(kind, kind.removeprefix("label_")) for kind in kinds]
    return _by_name(titles, series, "AUROC", as_percent=False)


def _sets_by_cost(network: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the cheapest sets of stages and each stage alone, the cheapest first."""
    sets = sorted(network["sets"], key=lambda one: float(one["cost"]["mean"]))
    return [one for place, one in enumerate(sets) if place < _CHEAPEST or "," not in one["stages"]]


def _points(
    axes: Axes,
    places: Sequence[float],
    values: Sequence[Mapping[str, Any]],
    label: str,
    number: int,
    *,
    horizontal: bool = False,
) -> None:
    """Draw means with spreads over seeds, in the colour of a number."""
    means, spreads = [value["mean"] for value in values], [value["spread"] or 0.0 for value in values]
    style: Any = {"fmt": "o", "markersize": 5, "color": PALETTE[number % len(PALETTE)], "label": label}
    if horizontal:
        axes.errorbar(means, places, xerr=spreads, **style)
    else:
        axes.errorbar(places, means, yerr=spreads, **style)


def _over_exits(method: Mapping[str, Any], sample: str) -> dict[str, float]:
    """Return the means of accuracy and spread over the exits; the full model and the policy come after them."""
    exits = method["samples"][sample]["accuracy"][:-2]
    spreads = [exit_["spread"] or 0.0 for exit_ in exits]
    return {"mean": float(np.mean([exit_["mean"] for exit_ in exits])), "spread": float(np.mean(spreads))}


def _by_name(
    labels: Sequence[str], series: Mapping[str, Sequence[Mapping[str, Any]]], title: str, *, as_percent: bool = True
) -> Figure:
    """Draw means with spreads over seeds, one place for each label."""
    figure = Figure(figsize=(max(8.0, 0.6 * len(labels)), 7))
    axes = figure.add_subplot()
    for number, (name, values) in enumerate(series.items()):
        places = [place + (number - (len(series) - 1) / 2) * 0.12 for place in range(len(labels))]
        _points(axes, places, values, name, number)
    _name_axes(axes, labels, title, as_percent=as_percent, rotation=70, ha="right", fontsize="small")
    legend_below(figure, axes, columns=2)
    simulation_label(axes)
    return figure


def _name_axes(axes: Axes, names: Sequence[str], title: str, *, as_percent: bool = True, **text: Any) -> None:
    """Name the places on the x axis, and the y axis."""
    axes.set_xticks(range(len(names)), names, **text)
    axes.tick_params(axis="x", which="minor", bottom=False, top=False)
    axes.set_ylabel(title)
    if as_percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
