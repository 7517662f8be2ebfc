"""Accuracy against the mean cost of policies, for several projects."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter

from phaze_ee.names import FULL_MODEL
from phaze_ee.plots.dynamic_tradeoff import number_axis
from phaze_ee.plots.style import PALETTE, hep_style, legend_below, simulation_label
from phaze_ee.results.policy import CurvePoint, DynamicResults
from phaze_ee.results.project import ProjectResults


@hep_style()
def policies_figure(projects: Sequence[ProjectResults]) -> Figure:
    """Draw the policy of each project, the curve of its score and its full model; at least one must have a policy.

    Costs are mean MACs of the test jets, each with its own number of particles.
    """
    figure = Figure(figsize=(9, 7.5))
    axes = figure.add_subplot()
    for index, project in enumerate(projects):
        if project.dynamic is not None:
            colour = PALETTE[index % len(PALETTE)]
            curve, policy = _curve(project.dynamic), project.dynamic.policy
            full = project.dynamic.exits[FULL_MODEL].all_leave
            axes.plot(
                [point.mean_macs for point in curve], [point.accuracy for point in curve], color=colour,
                label=project.name,
            )  # fmt: skip
            for point, marker, size in ((policy, "D", 9), (full, "*", 17)):
                axes.errorbar(
                    point.mean_macs, point.accuracy, point.accuracy_error, fmt=marker, color=colour, markersize=size,
                    markeredgecolor="white", markeredgewidth=0.5, capsize=3,
                )  # fmt: skip
    for label, marker, size in (("policy", "D", 8), ("full model", "*", 17)):
        axes.plot([], [], marker=marker, markersize=size, linestyle="none", color="0.45", label=label)
    axes.set_xscale("log")
    number_axis(axes.xaxis, EngFormatter())
    axes.set_xlabel("Mean MACs per jet, with its own number of particles")
    axes.set_ylabel("Accuracy")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    legend_below(figure, axes, columns=3)
    simulation_label(axes)
    return figure


def _curve(dynamic: DynamicResults) -> list[CurvePoint]:
    """Return the policies with the score of the judged policy by rising cost; that policy alone if there are none."""
    return next((curve.points for curve in dynamic.curves if curve.score == dynamic.policy.score), [dynamic.policy])
