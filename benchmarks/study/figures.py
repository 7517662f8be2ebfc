"""The figures of docs/STUDY.md."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from phaze_ee.plots.style import PALETTE, hep_style, legend_below, simulation_label

SAMPLES = {"test": "test", "other_mode": "other mode", "alpha_s": "α_s = 0.16", "tracks": "tracks lost"}
BETA_SERIES = {"exits": "mean of the exits", "full_model": "full model"}
_SHOWN = 8
_CHEAPEST = 12  # sets of a network that are drawn


@hep_style()
def losses(summary: Mapping[str, Any]) -> Figure:
    """Draw the mean accuracy of the exits of each head and loss, on each sample, with the spread over seeds."""
    methods = sorted(summary["methods"], key=_mean_of_exits)
    figure = Figure(figsize=(10, 2 + 0.4 * len(methods)))
    axes = figure.add_subplot()
    for number, (sample, title) in enumerate(SAMPLES.items()):
        axes.errorbar(
            [_mean_of_exits(method, sample) for method in methods],
            [place - (number - 1.5) * 0.18 for place in range(len(methods))],
            xerr=[np.mean([exit_["spread"] or 0.0 for exit_ in _exits(method, sample)]) for method in methods],
            fmt="o",
            markersize=5,
            color=PALETTE[number],
            label=title,
        )
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
        place = np.arange(len(signals)) + (number - 1) * 0.2
        label = {"exit": "first exit", "cut": "plain cut", "trees": "trees"}[rule]
        right.errorbar(
            place,
            [value["mean"] for value in found],
            [value["spread"] or 0.0 for value in found],
            fmt="o",
            color=PALETTE[number],
            label=label,
        )
    _name_axes(right, [name.removeprefix("label_") for name in signals], "Rejected QCD jets", rotation=60)
    legend_below(figure, right, columns=3)
    simulation_label(left)
    return figure


@hep_style()
def betas(summary: Mapping[str, Any]) -> Figure:
    """Draw the accuracy of exits and full model for each setting of β, with the spread over seeds."""
    settings = summary["settings"]
    labels = [f"{one['schedule']}, {100 * one['zero_share']:.0f} %, {one['beta']:g}" for one in settings]
    series = {title: [one[name] for one in settings] for name, title in BETA_SERIES.items()}
    return _by_name(labels, series, "Accuracy")


@hep_style()
def places(summary: Mapping[str, Any]) -> Figure:
    """Draw the mean cost at a loss of 1 % in accuracy: of each exit alone, and of the cheapest sets of each network."""
    sets: dict[str, None] = {}
    for network in summary["networks"].values():
        cheapest = sorted(network["sets"], key=lambda one: float(one["cost"]["mean"]))[:_CHEAPEST]
        chosen = [one["stages"] for one in network["sets"] if one in cheapest or "," not in one["stages"]]
        sets |= dict.fromkeys(chosen)
    series = {}
    for name, network in summary["networks"].items():
        costs = {one["stages"]: one["cost"] for one in network["sets"]}
        series[name] = [costs.get(stages) for stages in sets]
    return _by_name(list(sets), series, "MACs, share of the full model")


@hep_style()
def ood(summary: Mapping[str, Any]) -> Figure:
    """Draw the AUROC of each score for each kind of jets, with the spread over trainings."""
    kinds = summary["kinds"]
    names = list(next(iter(kinds.values()))["auroc"])
    series = {name: [found["auroc"][name] for found in kinds.values()] for name in names}
    return _by_name([kind.removeprefix("label_") for kind in kinds], series, "AUROC", as_percent=False)


def _exits(method: Mapping[str, Any], sample: str) -> Sequence[Mapping[str, Any]]:
    # The full model and the policy come after the exits.
    found: Sequence[Mapping[str, Any]] = method["samples"][sample]["accuracy"][:-2]
    return found


def _mean_of_exits(method: Mapping[str, Any], sample: str = "test") -> float:
    return float(np.mean([exit_["mean"] for exit_ in _exits(method, sample)]))


def _by_name(
    labels: Sequence[str],
    series: Mapping[str, Sequence[Mapping[str, Any] | None]],
    title: str,
    *,
    as_percent: bool = True,
) -> Figure:
    """Draw means with spreads over seeds, one place for each label; None is left out."""
    figure = Figure(figsize=(max(8.0, 0.6 * len(labels)), 7))
    axes = figure.add_subplot()
    for number, (name, values) in enumerate(series.items()):
        known = [(place, value) for place, value in enumerate(values) if value is not None]
        axes.errorbar(
            [place + (number - (len(series) - 1) / 2) * 0.12 for place, _ in known],
            [value["mean"] for _, value in known],
            [value["spread"] or 0.0 for _, value in known],
            fmt="o",
            color=PALETTE[number % len(PALETTE)],
            label=name,
        )
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
