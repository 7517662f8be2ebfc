"""The loss against the learning rate, while it rises."""

from matplotlib.figure import Figure

from phaze_ee.plots.style import PALETTE, hep_style, legend_below, simulation_label
from phaze_ee.results import LearningRateSearch


@hep_style()
def find_lr_figure(results: LearningRateSearch) -> Figure:
    """Draw the smoothed loss; a line marks the suggestion."""
    figure = Figure(figsize=(8, 6.5))
    axes = figure.subplots()
    losses = [float("nan") if loss is None else loss for loss in results.loss]
    axes.plot(results.lr, losses, color=PALETTE[0], label="total loss, smoothed")
    axes.axvline(results.suggestion, color=PALETTE[2], linestyle="--", label=f"steepest fall, {results.suggestion:.2g}")
    axes.set_xscale("log")
    axes.set_xlabel("Learning rate")
    axes.set_ylabel("Total loss")
    legend_below(figure, axes, columns=2)
    simulation_label(axes, results.project)
    return figure
