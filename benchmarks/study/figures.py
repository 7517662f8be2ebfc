"""The figures of docs/STUDY.md."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from benchmarks.study.jets import JUDGED
from phaze_ee.plots.style import PALETTE, hep_style, legend_below, simulation_label

SAMPLES = {"test": "test", "other_mode": "other mode", "alpha_s": "α_s = 0.16", "tracks": "tracks lost"}
_SHOWN = 8


@hep_style()
def losses(summary: Mapping[str, Any]) -> Figure:
    """Draw the mean accuracy of the exits on each sample, for each head and loss, with the spread over seeds."""
    figure = Figure(figsize=(9, 6))
    axes = figure.add_subplot()
    methods = summary["methods"]
    for number, method in enumerate(methods):
        found = [method["samples"][name]["accuracy"][:-1] for name in JUDGED]
        means = [np.mean([exit_["mean"] for exit_ in exits]) for exits in found]
        spreads = [np.mean([exit_["spread"] or 0.0 for exit_ in exits]) for exits in found]
        place = np.arange(len(JUDGED)) + (number - (len(methods) - 1) / 2) * 0.08
        label = f"{method['head']}, {method['loss']}"
        axes.errorbar(place, means, spreads, fmt="o", color=PALETTE[number % len(PALETTE)], label=label)
    axes.set_xticks(range(len(JUDGED)), [SAMPLES[name] for name in JUDGED])
    axes.tick_params(axis="x", which="minor", bottom=False, top=False)
    axes.set_ylabel("Accuracy, mean of the exits")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    legend_below(figure, axes, columns=3)
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
    right.set_xticks(range(len(signals)), [name.removeprefix("label_") for name in signals], rotation=60)
    right.tick_params(axis="x", which="minor", bottom=False, top=False)
    right.set_ylabel("Rejected QCD jets")
    right.yaxis.set_major_formatter(PercentFormatter(1.0))
    legend_below(figure, right, columns=3)
    simulation_label(left)
    return figure
