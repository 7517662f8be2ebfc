"""Where the jets of each class leave."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from phaze_ee.dynamic_results import DynamicResults
from phaze_ee.plots.style import exit_colour, hep_style, legend_below, simulation_label
from phaze_ee.plots.titles import class_title, exit_title


@hep_style()
def exit_histogram_figure(dynamic: DynamicResults) -> Figure:
    """Draw one bar a class, divided by the exits where its jets leave; a class without jets has an empty bar."""
    names = list(dynamic.policy.exits_per_class)
    counts_KE = np.array([dynamic.policy.exits_per_class[name] for name in names], dtype=float)
    share_KE = counts_KE / np.maximum(counts_KE.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(9, 2.8 + 0.45 * len(names)))
    axes = figure.add_subplot()
    start_K = np.zeros(len(names))
    for index, exit_ in enumerate(dynamic.exits):
        axes.barh(
            [class_title(name) for name in names],
            share_KE[:, index],
            left=start_K,
            color=exit_colour(exit_, index),
            label=exit_title(exit_),
            height=0.75,
        )
        start_K = start_K + share_KE[:, index]
    axes.set_xlim(0, 1)
    axes.invert_yaxis()
    axes.tick_params(axis="y", which="both", length=0)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("Share of the class that leaves at the exit")
    legend_below(figure, axes, columns=4)
    simulation_label(axes, f"{dynamic.jets:,} jets, {dynamic.policy.score}")
    return figure
