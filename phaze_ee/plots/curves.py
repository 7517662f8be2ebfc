"""Training curves: loss and accuracy per exit, and β, against the epoch."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from phaze_ee.names import CROSS_ENTROPY, exit_title
from phaze_ee.plots.style import PALETTE, exit_colour, hep_style, legend_below, simulation_label
from phaze_ee.results.training import EpochRecord, LearningRateSearch, TrainingHistory

_MOST_EPOCHS_WITH_MARKERS = 30
# What exits learn from, by the first word of the strategy, in files of version 0.1.
_EARLIER = {"mimic": "MSE to full model's logits", "distill": "CE + KL to full model"}


class Panel(NamedTuple):
    """One pair of axes: a quantity of some exits."""

    title: str
    quantity: Literal["loss", "accuracy"]
    exits: Sequence[str]


def loss_figure(history: TrainingHistory, evaluated: Mapping[str, float] | None = None) -> Figure:
    """Draw the losses. If exits learn from another loss than the full model, they have axes of their own.

    Args:
        history: of a training.
        evaluated: cross-entropies of mode evaluate by the names of the exits. They are drawn after the last epoch if
            the loss of the full model is the cross-entropy too; with targets of a regression it is more than that.
    """
    panels = loss_panels(history)
    return _curves(history, panels, evaluated if panels[0].title == CROSS_ENTROPY else None)


def loss_panels(history: TrainingHistory) -> list[Panel]:
    """Return one panel if exits and full model have the same loss, else one of the full model and one of the exits."""
    exits, full = history.exit_names, history.full_loss
    title = history.exit_loss or _EARLIER.get(history.exit_loss_strategy.split("_")[0], CROSS_ENTROPY)
    if title == full or len(exits) == 1:
        return [Panel(full, "loss", exits)]
    return [Panel(full, "loss", exits[-1:]), Panel(f"Exit loss:\n{title}", "loss", exits[:-1])]


def accuracy_figure(history: TrainingHistory) -> Figure:
    """Draw the accuracies."""
    return _curves(history, [Panel("Accuracy", "accuracy", history.exit_names)])


@hep_style()
def _curves(history: TrainingHistory, panels: Sequence[Panel], evaluated: Mapping[str, float] | None = None) -> Figure:
    heights = [3.0] * len(panels) + [1.0]
    figure = Figure(figsize=(8, 3.5 + 3 * len(panels)))
    rows = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, panel in zip(rows, panels, strict=False):
        _draw_panel(axes, history, panel)
    _draw_beta(rows[-1], history)
    if evaluated:
        _draw_evaluated(rows[0], history, evaluated)
    _explain(figure, rows[0], history)
    figure.align_ylabels()
    simulation_label(rows[0], f"{history.project}, {history.exit_loss_strategy}")
    return figure


def _draw_panel(axes: Axes, history: TrainingHistory, panel: Panel) -> None:
    for name in panel.exits:
        index = history.exit_names.index(name)
        for part, line in (("train", "--"), ("val", "-")):
            measured = [(_number(record), getattr(record, f"{part}_{panel.quantity}")) for record in history.epochs]
            points = [(epoch, values[index]) for epoch, values in measured if values is not None]
            _draw_line(axes, points, exit_colour(name, index), line)
    axes.set_ylabel(panel.title)
    if panel.quantity == "accuracy":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))


def _draw_evaluated(axes: Axes, history: TrainingHistory, evaluated: Mapping[str, float]) -> None:
    """Draw the cross-entropies of mode evaluate as diamonds after the last epoch."""
    place = _number(history.epochs[-1]) + 0.03 * max(len(history.epochs), 10)
    for index, name in enumerate(history.exit_names):
        if name in evaluated:
            axes.plot(place, evaluated[name], "D", color=exit_colour(name, index), markersize=6, clip_on=False)
    axes.plot([], [], "D", color="0.45", markersize=6, label="cross-entropy, evaluate")


def _draw_beta(axes: Axes, history: TrainingHistory) -> None:
    exits = history.exit_names[:-1]
    if len(exits) > 1 and all(len(set(record.beta)) == 1 for record in history.epochs):
        points = [(_number(record), record.beta[0]) for record in history.epochs]
        _draw_line(axes, points, "0.45", "-", "all exits")
        axes.legend(fontsize="small")
    else:
        for index, name in enumerate(exits):
            points = [(_number(record), record.beta[index]) for record in history.epochs]
            _draw_line(axes, points, exit_colour(name, index), "-")
    axes.set_ylabel("β")
    axes.set_ymargin(0.15)  # room for the markers at 0 and at the top
    axes.set_xlabel("Epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.xaxis.minorticks_off()


def _number(record: EpochRecord) -> int:
    """Return the number of an epoch from 1, as in the terminal; the history counts from 0."""
    return record.epoch + 1


def _draw_line(axes: Axes, points: Sequence[tuple[int, float]], colour: str, line: str, label: str = "") -> None:
    marker = "o" if len(points) <= _MOST_EPOCHS_WITH_MARKERS else ""
    epochs, values = [epoch for epoch, _ in points], [value for _, value in points]
    axes.plot(epochs, values, line, color=colour, marker=marker, markersize=4, label=label)


def _explain(figure: Figure, axes: Axes, history: TrainingHistory) -> None:
    """Add the legend: colours for exits, lines for training and validation."""
    for index, name in enumerate(history.exit_names):
        axes.plot([], [], color=exit_colour(name, index), label=exit_title(name))
    axes.plot([], [], "--", color="0.45", label="training")
    axes.plot([], [], "-", color="0.45", label="validation")
    legend_below(figure, axes, columns=4)


@hep_style()
def find_lr_figure(results: LearningRateSearch) -> Figure:
    """Draw the smoothed loss against the learning rate; a line marks the suggestion."""
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
