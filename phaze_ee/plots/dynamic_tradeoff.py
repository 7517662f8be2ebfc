"""Accuracy and rejection against cost: policies, exits, bounds, and full models of other projects."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil, sqrt
from typing import Literal, NamedTuple, Protocol

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, Formatter, LogLocator, NullFormatter, PercentFormatter, StrMethodFormatter

from phaze_ee.names import FULL_MODEL
from phaze_ee.plots.roc import FEWEST_BACKGROUND_JETS
from phaze_ee.plots.style import PALETTE, Drawing, hep_style, legend_below, simulation_label
from phaze_ee.plots.titles import class_titles
from phaze_ee.results.benchmark import BenchmarkResults, ExitLatency, LatencyReport
from phaze_ee.results.evaluation import Rejection
from phaze_ee.results.policy import DynamicResults, OperatingPoint
from phaze_ee.results.project import ProjectResults

Cost = Literal["macs", "time"]
_COST_LABELS: dict[Cost, str] = {
    "macs": "Mean MACs per jet",
    "time": "Median time per jet (ms), {jets}batches of {size}",
}
_BOUNDS = {"oracle": ("oracle", "v"), "label_free_oracle": ("label-free oracle", "^")}
_EXIT_COLOUR = "0.35"
_CURVE = "-"  # the line of a score's curve
_RIVAL_MARKERS = "Pps8hHdX"


class Judged(Protocol):
    """What a point shows: an operating point or the evaluation of an exit."""

    @property
    def accuracy(self) -> float: ...
    @property
    def accuracy_error(self) -> float: ...
    @property
    def rejections(self) -> list[Rejection]: ...


class Score(NamedTuple):
    """A value with its standard error, or a lower limit (``limit``) with error 0."""

    value: float
    error: float
    limit: bool = False

    @property
    def is_certain(self) -> bool:
        """Whether enough background jets pass: with n of them the relative error is 1/√n."""
        return self.error * sqrt(FEWEST_BACKGROUND_JETS) <= self.value


class Series(NamedTuple):
    """A title, points by rising cost, and how they are drawn; ``band``: with a band of errors."""

    title: str
    points: list[tuple[float, Judged]]
    colour: str
    marker: str
    line: str = ""
    size: float = 7.0
    band: bool = False


@dataclass(frozen=True)
class DynamicProject:
    """A judged policy, the costs of the same model, and other projects whose full models are drawn too."""

    dynamic: DynamicResults
    benchmark: BenchmarkResults
    rivals: Sequence[ProjectResults] = ()


def dynamic_figures(project: DynamicProject) -> dict[str, Drawing]:
    """Return drawings of accuracy and rejection against mean MACs, and against time if measured, by their names."""
    figures: dict[str, Drawing] = {}
    for cost in _costs(project):
        series = list(cost_series(project, cost))
        figures[f"{cost}_vs_accuracy"] = partial(accuracy_figure, project, cost, series)
        if project.dynamic.policy.rejections:
            figures[f"{cost}_vs_rejection"] = partial(rejection_figure, project, cost, series)
    return figures


def _costs(project: DynamicProject) -> list[Cost]:
    latency = project.benchmark.latency
    return ["macs"] if latency is None or not latency.chosen else ["macs", "time"]


def cost_series(project: DynamicProject, cost: Cost) -> Iterator[Series]:
    """Yield all series; what has no cost of this kind, as an oracle has no time, is left out.

    Of the curves, only that of the policy's score has a band: the errors of the others are alike, for the same jets.
    """
    dynamic, latency = project.dynamic, project.benchmark.latency
    chosen = dynamic.policy.score
    for index, curve in enumerate(dynamic.curves):
        found = [(_policy_cost(cost, point, curve.score, latency), point) for point in curve.points]
        yield Series(curve.score, _known(found), PALETTE[index % len(PALETTE)], "o", _CURVE, 4.5, curve.score == chosen)
    alone = {name: exit_.all_leave for name, exit_ in dynamic.exits.items()}
    exits = _known([(_exit_cost(cost, name, point, latency), point) for name, point in alone.items()])
    yield Series("all jets leave at one exit", exits[:-1], _EXIT_COLOUR, "s", ":", 7)
    yield Series("full model", exits[-1:], "black", "*", "", 17)
    if cost == "macs":
        for name, (title, marker) in _BOUNDS.items():
            bound: OperatingPoint = getattr(dynamic.bounds, name)
            yield Series(title, [(bound.mean_macs, bound)], _EXIT_COLOUR, marker, "", 9)
    policy = dynamic.policy
    own = _known([(_policy_cost(cost, policy, chosen, latency), policy)])
    moved = "" if dynamic.moved is None else ", moved"
    yield Series(f"policy ({chosen}{moved})", own, "black", "D", "", 9)
    for index, rival in enumerate(project.rivals):
        static = _known([(_rival_cost(cost, rival), rival.evaluation.exits[FULL_MODEL])])
        marker = _RIVAL_MARKERS[index % len(_RIVAL_MARKERS)]
        yield Series(f"{rival.name}, static", static, PALETTE[-1 - index % len(PALETTE)], marker, "", 11)


def _known(found: Sequence[tuple[float | None, Judged]]) -> list[tuple[float, Judged]]:
    return [(cost, point) for cost, point in found if cost is not None]


def _policy_cost(cost: Cost, point: OperatingPoint, score: str, latency: LatencyReport | None) -> float | None:
    if cost == "macs":
        return point.mean_macs
    thresholds = getattr(point, "thresholds", None)
    timed = [] if latency is None else [*latency.chosen, *latency.curves]
    return _milliseconds([entry for entry in timed if (entry.score, entry.thresholds) == (score, thresholds)])


def _exit_cost(cost: Cost, name: str, point: OperatingPoint, latency: LatencyReport | None) -> float | None:
    if cost == "macs":
        return point.mean_macs
    return _milliseconds([entry for entry in ([] if latency is None else latency.entries) if entry.name == name])


def _rival_cost(cost: Cost, rival: ProjectResults) -> float | None:
    latency = rival.benchmark.latency
    entries = [] if latency is None else [entry for entry in latency.entries if entry.name == FULL_MODEL]
    return _milliseconds(entries) if cost == "time" else entries[-1].mean_macs if entries else None


def _milliseconds(entries: Sequence[ExitLatency]) -> float | None:
    """Return the median time per jet in the largest batches; the median is robust against other load."""
    return max(entries, key=lambda entry: entry.batch_size).p50_ms if entries else None


@hep_style()
def accuracy_figure(project: DynamicProject, cost: Cost, series: Sequence[Series]) -> Figure:
    """Draw the accuracy of each point with its error. The bounds, far above all curves, are written in the panel."""
    figure = Figure(figsize=(9, 7.5))
    axes = figure.add_subplot()
    bounds = {title for title, _ in _BOUNDS.values()}
    drawn = [one for one in series if one.title not in bounds]
    _draw(axes, drawn, lambda judged: Score(judged.accuracy, judged.accuracy_error))
    notes = [_bound_note(one) for one in series if one.title in bounds and one.points]
    axes.text(0.03, 0.97, "\n".join(notes), transform=axes.transAxes, va="top", fontsize="x-small", color=_EXIT_COLOUR)
    axes.set_ylabel("Accuracy")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    _finish(figure, [axes], project, cost)
    return figure


def _bound_note(bound: Series) -> str:
    (macs, judged), *_ = bound.points
    accuracy, error = 100 * judged.accuracy, 100 * judged.accuracy_error
    return f"{bound.title}: {accuracy:.1f} ± {error:.1f} % at {EngFormatter(places=2)(macs)} MACs"


@hep_style()
def rejection_figure(project: DynamicProject, cost: Cost, series: Sequence[Series]) -> Figure:
    """Draw one panel per signal. Lower limits of single points are three-legged marks without errors.

    Points of lines are left out if fewer than five background jets pass.
    """
    rejections, titles = project.dynamic.policy.rejections, class_titles(project.dynamic.classes)
    columns = ceil(sqrt(len(rejections)))
    rows = ceil(len(rejections) / columns)
    side = 7.0 if len(rejections) == 1 else 4.2
    figure = Figure(figsize=(columns * side, rows * side * 0.85 + 1.6))
    panels = list(figure.subplots(rows, columns, squeeze=False, sharex=True).flat)
    limited = False
    for index, (axes, rejection) in enumerate(zip(panels, rejections, strict=False)):
        score = _rejection_of(index)
        limited |= _draw(axes, series, score)
        axes.set_yscale("log")
        axes.set_ylim(_around([found for one in series for _, judged in one.points if (found := score(judged))]))
        number_axis(axes.yaxis, StrMethodFormatter("{x:g}"), rows > 1)
        signal, background = titles[rejection.signal], titles[rejection.background]
        axes.set_ylabel(f"{background} rejection")
        title = f"{signal}, {100 * rejection.signal_efficiency:g} %"
        curves = [one for one in series if one.line == _CURVE and one.points]
        if curves and not any(_certain(one, score) for one in curves):
            title += f"\nno curve: fewer than {FEWEST_BACKGROUND_JETS}\n{background} jets pass"
        axes.text(0.04, 0.95, title, transform=axes.transAxes, va="top")
    for unused in panels[len(rejections) :]:
        unused.remove()
    label = "limit (68 %): no background jet passes" if limited else ""
    panels[0].plot([], [], "2", color=_EXIT_COLOUR, markersize=12, markeredgewidth=2, label=label)
    _finish(figure, panels[: len(rejections)], project, cost, columns)
    return figure


def _rejection_of(index: int) -> Callable[[Judged], Score | None]:
    def score(judged: Judged) -> Score | None:
        if index >= len(judged.rejections):
            return None
        rejection = judged.rejections[index]
        if rejection.value is not None and rejection.error is not None:
            return Score(rejection.value, rejection.error)
        return None if rejection.lower_limit is None else Score(rejection.lower_limit, 0.0, limit=True)

    return score


def _around(scores: Sequence[Score]) -> tuple[float, float]:
    """Return limits of a logarithmic axis from the values alone; errors may be much larger."""
    values = [score.value for score in scores] or [1.0]
    return max(0.8, min(values) / 1.6), 2.2 * max(values)


def number_axis(axis: Axis, formatter: Formatter, short: bool = False) -> None:
    """Write numbers at 1, 2 and 5 of each decade; more on a short range, fewer for many decades on a short axis."""
    low, high = axis.get_view_interval()
    few, many = high < 8 * low, short and high > 100 * low
    axis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7) if few else (1,) if many else (1, 2, 5)))
    axis.set_major_formatter(formatter)
    axis.set_minor_formatter(NullFormatter())


def _draw(axes: Axes, series: Sequence[Series], score: Callable[[Judged], Score | None]) -> bool:
    """Draw all series, and return whether a limit is among them.

    Points of lines have no error bars, and are left out if too uncertain.
    """
    limited = False
    for one in series:
        alone = len(one.points) == 1
        values = _certain(one, score)
        limits = [(cost, found.value) for cost, found in _scored(one, score) if found.limit and alone]
        if limits:
            axes.plot(*zip(*limits, strict=True), "2", color=one.colour, markersize=12, markeredgewidth=2)
            limited = True
        if not values:
            continue  # an entry of the legend without a point would promise one
        axes.errorbar(
            [cost for cost, _ in values],
            [found.value for _, found in values],
            [found.error for _, found in values] if alone else None,
            fmt=one.marker + one.line,
            color=one.colour,
            markersize=one.size,
            linewidth=1.5,
            capsize=3,
            markeredgecolor="white",
            markeredgewidth=0.5,
            label=one.title,
        )
        if one.band:
            _draw_band(axes, values, one.colour)
    return limited


def _draw_band(axes: Axes, values: Sequence[tuple[float, Score]], colour: str) -> None:
    ends = sorted((cost, found.value - found.error, found.value + found.error) for cost, found in values)
    costs, low, high = zip(*ends, strict=True)
    axes.fill_between(costs, low, high, color=colour, alpha=0.15, linewidth=0)


def _scored(one: Series, score: Callable[[Judged], Score | None]) -> list[tuple[float, Score]]:
    return [(cost, found) for cost, judged in one.points if (found := score(judged)) is not None]


def _certain(one: Series, score: Callable[[Judged], Score | None]) -> list[tuple[float, Score]]:
    """Return the points to draw: no limits, and of lines only those with enough background jets."""
    alone = len(one.points) == 1
    return [(cost, found) for cost, found in _scored(one, score) if not found.limit and (alone or found.is_certain)]


def _finish(figure: Figure, panels: Sequence[Axes], project: DynamicProject, cost: Cost, columns: int = 1) -> None:
    latency = project.benchmark.latency
    label = _COST_LABELS[cost]
    if cost == "time" and latency is not None:
        size = max((entry.batch_size for entry in latency.entries), default=0)
        jets = "jets as in class_prior, " if latency.class_shares is not None else ""
        label = f"{label.format(size=size, jets=jets)}\n{latency.conditions}"
    for number, axes in enumerate(panels):
        axes.set_xscale("log")
        number_axis(axes.xaxis, EngFormatter() if cost == "macs" else StrMethodFormatter("{x:g}"), columns > 1)
        if number >= len(panels) - columns:
            axes.set_xlabel(label)
            axes.tick_params(labelbottom=True)
    legend_below(figure, panels, columns=3)
    simulation_label(panels[0], f"{project.dynamic.jets:,} jets", panels[columns - 1])
