"""Accuracies side by side, and their differences to a reference with the errors that follow from the same jets."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from phaze_ee.names import brief
from phaze_ee.paired import SIGNIFICANCE
from phaze_ee.plots.style import PALETTE, hep_style, legend_below, simulation_label
from phaze_ee.results.differences import ComparedAnswer, Differences

_LONGEST_NAME = 24
_SEED_COLOUR = PALETTE[1]


@hep_style()
def differences_figure(differences: Differences, title: str = "") -> Figure:
    """Draw each accuracy (left) and its difference to the reference in percentage points (right), one row for each.

    Bars with caps are the standard errors for the number of jets: of independent samples on the left, of the same jets
    on the right. Bands are one standard deviation over the seeds, small circles the single seeds. Significant
    differences are filled and have a star; below the spread of the seeds nothing is claimed.
    """
    answers = differences.answers
    figure = Figure(figsize=(11, 3.2 + 0.45 * len(answers)))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1, 1))
    for row, answer in enumerate(answers):
        _draw_accuracy(left, row, answer)
        _draw_difference(right, row, answer)
    right.axvline(0, color="0.45", linewidth=1, linestyle="--", zorder=1)
    left.set_yticks(range(len(answers)), [brief(answer.name, _LONGEST_NAME) for answer in answers])
    for axes in (left, right):
        axes.set_ylim(len(answers) - 0.4, -0.6)
        axes.tick_params(axis="y", which="both", length=0)
        axes.margins(x=0.12)
    left.set_xlabel("Accuracy")
    left.xaxis.set_major_formatter(PercentFormatter(1.0))
    left.locator_params(axis="x", nbins=5)
    right.locator_params(axis="x", nbins=6)
    right.set_xlabel(f"Difference to {brief(differences.reference, _LONGEST_NAME)} (pp)")
    _explain(left, differences)
    legend_below(figure, left, columns=3)
    simulation_label(left, title or (f"{differences.jets:,} jets" if differences.jets else ""), right)
    return figure


def _draw_accuracy(axes: Axes, row: int, answer: ComparedAnswer) -> None:
    _draw_band(axes, row, answer.accuracy, answer.spread)
    axes.plot(answer.seeds, [row + 0.22] * len(answer.seeds), "o", color=_SEED_COLOUR, markersize=3.5, zorder=2)
    axes.errorbar(answer.accuracy, row, xerr=answer.accuracy_error, fmt="o", color="black", capsize=3, zorder=3)


def _draw_difference(axes: Axes, row: int, answer: ComparedAnswer) -> None:
    found = answer.difference
    if found is None:
        axes.plot(0, row, "D", color="black", markersize=6, zorder=3)
        return
    value = 100 * found.value
    _draw_band(axes, row, value, None if found.spread is None else 100 * found.spread)
    axes.errorbar(
        value, row, xerr=100 * found.jets_error, fmt="o", color="black", capsize=3, zorder=3,
        markerfacecolor="black" if found.significant else "white",
    )  # fmt: skip
    if found.significant:
        axes.annotate("*", (value, row), xytext=(0, 3), textcoords="offset points", ha="center", fontsize=16)
    if not found.paired:
        axes.annotate(
            "not the same jets", (value, row), xytext=(0, -12), textcoords="offset points", ha="center",
            fontsize="xx-small", color="0.4",
        )  # fmt: skip


def _draw_band(axes: Axes, row: int, value: float, spread: float | None) -> None:
    if spread is not None:
        axes.fill_between(
            [value - spread, value + spread], row - 0.14, row + 0.14, color=_SEED_COLOUR, alpha=0.45, linewidth=0,
            zorder=1,
        )  # fmt: skip


def _explain(axes: Axes, differences: Differences) -> None:
    axes.errorbar([], [], xerr=[], fmt="o", color="black", capsize=3, label="± error over jets")
    if any(answer.spread is not None for answer in differences.answers):
        axes.fill_between([], [], color=_SEED_COLOUR, alpha=0.45, linewidth=0, label="± spread over seeds")
        axes.plot([], [], "o", color=_SEED_COLOUR, markersize=3.5, label="one seed")
    corrected = f", Holm for {len(differences.contrasts)}" if len(differences.contrasts) > 1 else ""
    axes.plot(
        [], [], "o", color="black", markerfacecolor="white",
        label=f"difference not significant at {100 * SIGNIFICANCE:g} %{corrected}",
    )  # fmt: skip
