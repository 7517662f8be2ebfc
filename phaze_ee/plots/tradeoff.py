"""Score against cost of exits, for one project or several."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter, ScalarFormatter

from phaze_ee.names import FULL_MODEL, POLICY, exit_title
from phaze_ee.plots.labels import place_labels
from phaze_ee.plots.style import PALETTE, Drawing, hep_style, legend_below, simulation_label
from phaze_ee.results.project import Cost, ProjectResults
from phaze_ee.stats import pareto_front

Score = Literal["accuracy", "roc_auc"]

# The figures by the names of their files. "flops" are MACs by weaver's counter.
TRADEOFFS: dict[str, tuple[Cost, Score]] = {
    "flops_vs_accuracy": ("flops", "accuracy"),
    "params_vs_accuracy": ("params", "accuracy"),
    "flops_vs_auc": ("flops", "roc_auc"),
    "params_vs_auc": ("params", "roc_auc"),
}
_COST_LABELS: dict[Cost, str] = {
    "flops": "MACs per jet (weaver's counter), {particles} particles",
    "macs": "Exact MACs per jet, {particles} particles",
    "params": "Parameters up to the exit",
}
_SCORE_LABELS: dict[Score, str] = {"accuracy": "Accuracy", "roc_auc": "Macro one-vs-one ROC AUC"}
_NARROWEST_COST_RANGE = 6.0  # a log axis with ticks at 1, 2 and 5 then has at least two
_NEAR = 0.8  # share of the full model's cost, in the enlarged panel


class Point(NamedTuple):
    """One exit, or the policy, in a trade-off figure.

    ``error`` is the standard error of the score, 0 if not known; ``spread`` its standard deviation over seeds, 0
    without seeds.
    """

    exit: str
    cost: float
    score: float
    error: float
    spread: float = 0.0


def tradeoff_points(project: ProjectResults, cost: Cost, score: Score) -> list[Point]:
    """Return the exits of a project in order, and the policy, without those that lack the score.

    The AUC needs jets of two classes.
    """
    points = []
    for name, evaluation in project.with_policy.exits.items():
        value = getattr(evaluation, score)
        error = evaluation.accuracy_error if score == "accuracy" else 0.0
        if value is not None:
            points.append(Point(name, project.cost(name, cost), value, error, project.spread(name, score) or 0.0))
    return points


def pareto_frontier(points: Sequence[Point]) -> list[Point]:
    """Return the Pareto-optimal points by rising cost: no other has at least their score for at most their cost."""
    return pareto_front(points, lambda point: (point.cost, -point.score))


def tradeoff_figures(projects: Sequence[ProjectResults]) -> dict[str, Drawing]:
    """Return the drawings of ``TRADEOFFS`` by their names, without those of a score that a project lacks altogether."""
    return {
        name: partial(tradeoff_figure, projects, cost, score)
        for name, (cost, score) in TRADEOFFS.items()
        if all(tradeoff_points(project, cost, score) for project in projects)
    }


@hep_style()
def tradeoff_figure(projects: Sequence[ProjectResults], cost: Cost, score: Score) -> Figure:
    """Draw score against cost, one colour per project; each project must have an exit with the score.

    Exits are circles, joined in the order of the network; the full model is a star, the policy a diamond. The dashed
    steps are the Pareto frontier of all points. Broad bars are standard deviations over seeds, thin ones standard
    errors for the number of jets. Exits of a single project have labels. For several projects a second panel enlarges
    the region around the full models.
    """
    series = {_legend_name(project, projects): tradeoff_points(project, cost, score) for project in projects}
    every = [point for points in series.values() for point in points]
    compared = len(series) > 1
    figure = Figure(figsize=(11 if compared else 8, 6 + 0.1 * len(series)))
    panels = figure.subplots(1, 2, width_ratios=(2, 1)) if compared else [figure.add_subplot()]
    for axes in panels:
        for index, (name, points) in enumerate(series.items()):
            _draw_project(axes, points, name, index, (len(series) - 1 - index) / len(series))
        _draw_frontier(axes, pareto_frontier(every))
        _finish_axes(axes, score)
    _set_limits(panels[0], every)
    panels[0].set_ylabel(_SCORE_LABELS[score])
    particles = sorted({project.benchmark.particles for project in projects})
    panels[0].set_xlabel(_COST_LABELS[cost].format(particles=" or ".join(map(str, particles))))
    if compared:
        _enlarge(panels[1], panels[0], every)
    _explain(
        figure,
        panels[0],
        policy=any(point.exit == POLICY for point in every),
        spread=any(point.spread for point in every),
    )
    simulation_label(panels[0], _sample(projects))
    if not compared:
        texts = [exit_title(point.exit) for point in every]
        place_labels(panels[0], [(point.cost, point.score) for point in every], texts)
    return figure


def _legend_name(project: ProjectResults, projects: Sequence[ProjectResults]) -> str:
    particles = project.benchmark.particles
    alike = all(other.benchmark.particles == particles for other in projects)
    return project.name if alike else f"{project.name} ({particles} particles)"


def _draw_frontier(axes: Axes, frontier: Sequence[Point]) -> None:
    costs, scores = [point.cost for point in frontier], [point.score for point in frontier]
    axes.plot(costs, scores, "--", drawstyle="steps-post", color="0.45", linewidth=1, zorder=1, label="Pareto frontier")


def _draw_project(axes: Axes, points: Sequence[Point], name: str, index: int, rim: float) -> None:
    """Draw one project. After every five projects line and filling change too, for readers who cannot see the colours.

    ``rim`` from 0 to 1 makes markers larger. Of points at the same place, such as full models with detached exits, the
    first is visible as a rim around the last.
    """
    colour, odd = PALETTE[index % len(PALETTE)], (index // 5) % 2
    line = ("-", ":", "-.")[(index // 5) % 3]
    fill = "white" if odd else colour
    joined = [point for point in points if point.exit != POLICY]
    axes.plot(
        [point.cost for point in joined], [point.score for point in joined], line, color=colour, linewidth=1.5,
        zorder=2, label=name,
    )  # fmt: skip
    costs, scores = [point.cost for point in points], [point.score for point in points]
    axes.errorbar(
        costs, scores, [point.error for point in points], fmt="none", ecolor=colour, elinewidth=1.2, capsize=3, zorder=2
    )
    if any(point.spread for point in points):
        spreads = [point.spread for point in points]
        axes.errorbar(costs, scores, spreads, fmt="none", ecolor=colour, elinewidth=5, alpha=0.3, zorder=1)
    for kind, marker, size in (
        (FULL_MODEL, "*", 17 + 12 * rim),
        ("", "o", 7 + 4 * rim),
        (POLICY, "D", 8 + 4 * rim),
    ):  # a late exit often lies on the star
        chosen = [point for point in points if (point.exit if point.exit in (FULL_MODEL, POLICY) else "") == kind]
        axes.plot(
            [point.cost for point in chosen], [point.score for point in chosen], marker, markersize=size, zorder=3,
            clip_on=kind != FULL_MODEL,  # full models lie in every panel, a perfect one on the edge
            markerfacecolor=fill, markeredgecolor=colour if odd else "white", markeredgewidth=1.2 if odd else 0.5,
        )  # fmt: skip


def _finish_axes(axes: Axes, score: Score) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    percent = PercentFormatter(1.0)
    axes.yaxis.set_major_formatter(percent if score == "accuracy" else ScalarFormatter(useOffset=False))


def _set_limits(axes: Axes, points: Sequence[Point]) -> None:
    lowest, highest = min(point.cost for point in points), max(point.cost for point in points)
    spare = max(1.4, np.sqrt(_NARROWEST_COST_RANGE * lowest / highest))
    axes.set_xlim(lowest / spare, highest * spare)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.margins(y=0.12)
    _forbid_impossible_scores(axes)


def _enlarge(axes: Axes, whole: Axes, points: Sequence[Point]) -> None:
    """Limit ``axes`` to points that cost about as much as the full models, and mark this window in ``whole``."""
    costs = [point.cost for point in points if point.exit == FULL_MODEL]
    near = [point for point in points if _NEAR * min(costs) <= point.cost <= max(costs)]
    lowest, highest = min(point.cost for point in near), max(point.cost for point in near)
    bottom, top = min(point.score for point in near), max(point.score for point in near)
    spare, height = max(1.02, (highest / lowest) ** 0.3), max(0.3 * (top - bottom), 0.002)
    (least, most), (lowest_score, highest_score) = whole.get_xlim(), whole.get_ylim()
    axes.set_xlim(max(lowest / spare, least), min(highest * spare, most))  # the window lies in the whole
    axes.set_ylim(max(bottom - height, lowest_score), min(top + height, highest_score))
    _forbid_impossible_scores(axes)
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.set_title("around the full models", loc="right", fontsize="small")
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    whole.indicate_inset((left, low, right - left, high - low), edgecolor="0.3", alpha=1, linewidth=0.8)


def _forbid_impossible_scores(axes: Axes) -> None:
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0), min(high, 1))


def _explain(figure: Figure, axes: Axes, *, policy: bool, spread: bool) -> None:
    """Add the legend: projects, and the meaning of circles, stars, diamonds, broad bars and dashes."""
    neutral: dict[str, Any] = {"color": "0.45", "linestyle": "none", "markeredgecolor": "white"}
    axes.plot([], [], marker="o", markersize=7, label="exit", **neutral)
    axes.plot([], [], marker="*", markersize=17, label="full model", **neutral)
    if spread:
        axes.fill_between([], [], color="0.45", alpha=0.3, linewidth=0, label="± spread over seeds")
    if policy:
        axes.plot([], [], marker="D", markersize=8, label="policy", **neutral)
    legend_below(figure, axes, columns=3)


def _sample(projects: Sequence[ProjectResults]) -> str:
    """Return the number of jets that all projects were evaluated on; empty if it differs."""
    jets = {project.evaluation.jets for project in projects}
    return f"{jets.pop():,} jets" if len(jets) == 1 else ""
