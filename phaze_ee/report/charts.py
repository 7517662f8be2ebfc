"""The charts of a report, as data that the script of the page draws."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from math import isfinite, sqrt
from typing import Any, final

from phaze_ee.names import FULL_MODEL, POLICY, class_title, exit_title, observable_title, quantity
from phaze_ee.plots.curves import Panel, loss_panels
from phaze_ee.plots.dynamic_tradeoff import Score
from phaze_ee.plots.roc import FEWEST_BACKGROUND_JETS, rejection_curve, rejection_error
from phaze_ee.plots.style import exit_colour
from phaze_ee.report.markup import INK, data_block
from phaze_ee.report.sequence import SEQUENCE, policy_curve, tested_sequence
from phaze_ee.results.evaluation import EvaluationResults, Rejection
from phaze_ee.results.placement import PlacementResults
from phaze_ee.results.policy import DynamicResults, ExitRates, MassAudit
from phaze_ee.results.project import ProjectResults
from phaze_ee.results.training import TrainingHistory

FEWEST_JETS = 10  # of a mass shape, or of a bin of confidence, that is drawn
ENOUGH = f"where at least {FEWEST_BACKGROUND_JETS} background jets pass"
_SCORE_COLOURS = ("#3f90da", "#e76300", "#832db6", "#717581", "#a96b59")

Point = tuple[float, float, float]  # x, y and the standard error of y


@final
@dataclass(frozen=True)
class Axis:
    """An axis: its title, and whether it is logarithmic or in percent."""

    title: str
    log: bool = False
    percent: bool = False


@final
@dataclass(frozen=True)
class Series:
    """Points with a name and a colour of CSS. A line may join them, and a band show their errors."""

    name: str
    colour: str
    points: Sequence[Point]
    line: bool = True
    dashed: bool = False
    marked: bool = True
    band: bool = True


@final
@dataclass(frozen=True)
class Chart:
    """A chart; ``name`` is its id."""

    name: str
    title: str
    x: Axis
    y: Axis
    series: Sequence[Series] = field(default=())

    def html(self) -> str:
        """Return the place of the chart in the page, with its data. Points that are not finite are left out."""
        drawn = [one for one in map(self._drawable, self.series) if one["points"]]
        if not drawn:
            return f"<p>{escape(self.title)}: no point can be drawn.</p>"
        data = {**asdict(self), "series": drawn}
        return f'<figure class="chart" data-of="{self.name}-data"></figure>{data_block(f"{self.name}-data", data)}'

    def _drawable(self, series: Series) -> dict[str, Any]:
        points = [
            point
            for point in series.points
            if all(map(isfinite, point)) and (point[0] > 0 or not self.x.log) and (point[1] > 0 or not self.y.log)
        ]
        return {**asdict(series), "points": points}


def colour(name: str, index: int) -> str:
    """Return the colour of an exit as in the figures; the full model has that of the text."""
    return INK if name == FULL_MODEL else exit_colour(name, index)


def tradeoff(dynamic: DynamicResults) -> Chart:
    """Return accuracy against cost: the curve of each score, the sequence of the calibration, exits, and the policy.

    Only one curve has a band: the errors of the others are alike, because the jets are the same.
    """
    exits, sequence = list(dynamic.exits.items()), tested_sequence(dynamic)
    series = [
        Series(
            curve.score,
            _SCORE_COLOURS[index % len(_SCORE_COLOURS)],
            _accuracies(curve.points),
            band=curve.score == dynamic.policy.score and not sequence,
        )
        for index, curve in enumerate(dynamic.curves)
    ]
    series.append(Series(SEQUENCE, exit_colour(POLICY, 0), sorted(_accuracies(sequence)), marked=False))
    early = [exit_.all_leave for name, exit_ in exits if name != FULL_MODEL]
    full = [exit_.all_leave for name, exit_ in exits if name == FULL_MODEL]
    series += [
        Series("all jets leave at one exit", "#94a4a2", _accuracies(early), line=False),
        Series("full model", INK, _accuracies(full), line=False),
        Series("policy", exit_colour(POLICY, 0), _accuracies([dynamic.policy]), line=False),
    ]
    return Chart("tradeoff-chart", "Accuracy against cost", share_axis(), Axis("Accuracy", percent=True), series)


def comparison(projects: Sequence[ProjectResults]) -> Chart:
    """Return accuracy against multiply-accumulates of the exits and the policies of projects."""
    series = []
    for index, project in enumerate(projects):
        judged, shade = project.with_policy.exits, _SCORE_COLOURS[index % len(_SCORE_COLOURS)]
        for names, title in (
            ([n for n in judged if n != POLICY], "exits"),
            ([n for n in judged if n == POLICY], "policy"),
        ):
            points = [(project.cost(n, "macs") / 1e6, judged[n].accuracy, judged[n].accuracy_error) for n in names]
            series.append(Series(f"{project.name}, {title}", shade, points, line=title == "exits"))
    axis = Axis("MACs (M), one padded jet", log=True)
    return Chart("comparison-chart", "Accuracy against cost", axis, Axis("Accuracy", percent=True), series)


def policies(projects: Sequence[ProjectResults]) -> Chart:
    """Return accuracy against mean cost along the sequence of each calibration, and the policies.

    A policy without a stored sequence has the curve of its score.
    """
    series = []
    for index, (name, dynamic) in enumerate((project.name, project.dynamic) for project in projects):
        if dynamic is not None:
            shade, curve = _SCORE_COLOURS[index % len(_SCORE_COLOURS)], policy_curve(dynamic)
            own = SEQUENCE if tested_sequence(dynamic) else dynamic.policy.score
            for title, points in ((own, curve if len(curve) > 1 else []), ("policy", [dynamic.policy])):
                drawn = sorted((one.mean_macs / 1e6, one.accuracy, one.accuracy_error) for one in points)
                series.append(Series(f"{name}, {title}", shade, drawn, line=title != "policy"))
    axis = Axis("Mean MACs (M), each jet with its own particles", log=True)
    return Chart(
        "policies-chart", "Accuracy against cost of the policies", axis, Axis("Accuracy", percent=True), series
    )


def rejections(dynamic: DynamicResults) -> Chart | None:
    """Return rejections against cost along the curve of the policy's score; None without two points of one curve."""
    points = policy_curve(dynamic)
    cuts = list(dict.fromkeys((one.signal, one.signal_efficiency) for point in points for one in point.rejections))
    series = []
    for index, (signal, efficiency) in enumerate(cuts):
        found = [
            (point.macs_share, one.value or 0.0, one.error or 0.0)
            for point in points
            for one in point.rejections
            if (one.signal, one.signal_efficiency) == (signal, efficiency) and _is_certain(one)
        ]
        name = f"{class_title(signal)} at {100 * efficiency:g} %"
        series.append(Series(name, exit_colour("exit", index), sorted(found)))
    title = f"Rejection against cost, {ENOUGH}"
    is_curve = any(len(one.points) > 1 for one in series)
    return Chart("rejection-chart", title, share_axis(), Axis("Rejection", log=True), series) if is_curve else None


def roc_charts(results: ProjectResults) -> list[Chart]:
    """Return a chart of ROC curves for each signal class, with the policy. Few background jets are not drawn."""
    judged = results.with_policy
    signals = dict.fromkeys(curve.signal for exit_ in judged.exits.values() for curve in exit_.roc_curves)
    return [_roc_chart(number, signal, judged) for number, signal in enumerate(signals)]


def reliability(judged: EvaluationResults) -> Chart | None:
    """Return the share of correct answers against the confidence of the exits and the policy.

    None if the results have no such bins. Bins of fewer than 10 jets are not drawn.
    """
    series = []
    for index, (name, exit_) in enumerate(judged.exits.items()):
        bins = [one for one in exit_.confidence_bins if one.jets >= FEWEST_JETS]
        points = [(one.confidence, one.accuracy, sqrt(one.accuracy * (1 - one.accuracy) / one.jets)) for one in bins]
        series.append(Series(exit_title(name), colour(name, index), points))
    drawn = [x for one in series for x, _, _ in one.points]
    if not drawn:
        return None
    ends = [(x, x, 0.0) for x in (min(drawn), max(drawn))]
    series.append(Series("calibrated", "#94a4a2", ends, dashed=True, marked=False))
    title = f"Right answers against confidence, in bins of at least {FEWEST_JETS} jets"
    return Chart(
        "reliability-chart", title, Axis("Mean confidence", percent=True), Axis("Right answers", percent=True), series
    )


def exit_rates(rates: Sequence[ExitRates]) -> list[Chart]:
    """Return a chart for each observable and sample: the shares of the jets that leave at each exit."""
    return [_rates_chart(number, one) for number, one in enumerate(rates)]


def mass_shapes(audit: MassAudit) -> Chart:
    """Return the background's mass before and after the cut. Shapes of fewer than 10 jets are not drawn."""
    centres = [(low + high) / 2 for low, high in zip(audit.edges[:-1], audit.edges[1:], strict=True)]
    counted = (
        ("before the cut", "#94a4a2", audit.uncut_counts),
        ("full model", INK, audit.full_model.counts),
        ("policy", exit_colour(POLICY, 0), audit.mixture.counts),
    )
    series = []
    for name, shade, counts in counted:
        total = sum(counts)
        points = [(x, count / total, count**0.5 / total) for x, count in zip(centres, counts, strict=True) if total]
        series.append(Series(name, shade, points if total >= FEWEST_JETS else []))
    title = f"Mass of {class_title(audit.background)} jets"
    axis = Axis(_observable(audit.observable))
    return Chart("mass-chart", title, axis, Axis("Share of the jets", percent=True), series)


def placement(found: PlacementResults) -> Chart:
    """Return accuracy against cost of the sets of exits that are best for their cost, and of the recommended one."""
    best = [point for point in found.pareto if point.macs_share > 0]
    counts = sorted({len(point.exit_stages) for point in best})
    series = [Series("Pareto set", "#94a4a2", _accuracies(best), marked=False)]
    for number, count in enumerate(counts):
        points = _accuracies(point for point in best if len(point.exit_stages) == count)
        title = quantity(count, "exit") if count else "no exit"
        series.append(Series(title, _SCORE_COLOURS[number % len(_SCORE_COLOURS)], points, line=False))
    series += [
        Series("full model", INK, _accuracies([found.full_model]), line=False),
        Series("recommended", exit_colour(POLICY, 0), _accuracies([found.recommended]), line=False),
    ]
    return Chart("placement-chart", "Sets of exits", share_axis(), Axis("Accuracy", percent=True), series)


def training(history: TrainingHistory) -> list[Chart]:
    """Return loss and accuracy of each exit against the epoch: training dashed, validation solid."""
    panels = [*loss_panels(history), Panel("Accuracy", "accuracy", history.exit_names)]
    return [_training_chart(number, panel, history) for number, panel in enumerate(panels)]


def jets_title(sample: str) -> str:
    """Return the jets of a sample in words: ``all`` as ``all jets``, ``label_QCD`` as ``QCD jets``."""
    return f"{class_title(sample)} jets"


def share_axis() -> Axis:
    """Return the axis of costs as shares of the full model's."""
    return Axis("MACs, share of the full model", log=True, percent=True)


def _is_certain(rejection: Rejection) -> bool:
    return rejection.value is not None and Score(rejection.value, rejection.error or 0.0).is_certain


def _observable(name: str) -> str:
    return observable_title(name).replace("$p_T$", "pT")  # the page has no mathematical type


def _accuracies(points: Iterable[Any]) -> list[Point]:
    return [(point.macs_share, point.accuracy, point.accuracy_error) for point in points]


def _roc_chart(number: int, signal: str, judged: EvaluationResults) -> Chart:
    series, background = [], ""
    for index, (name, exit_) in enumerate(judged.exits.items()):
        for curve in (curve for curve in exit_.roc_curves if curve.signal == signal):
            background, jets = curve.background, judged.jets_per_class[curve.background]
            efficiency, rejection = rejection_curve(curve, jets)
            errors = rejection_error(rejection, jets)
            points = list(zip(efficiency.tolist(), rejection.tolist(), errors.tolist(), strict=True))
            series.append(Series(exit_title(name), colour(name, index), points, marked=False))
    x, y = (
        Axis(f"{class_title(signal)} efficiency", percent=True),
        Axis(f"{class_title(background)} rejection", log=True),
    )
    title = f"{class_title(signal)} against {class_title(background)}"
    return Chart(f"roc-{number}", title, x, y, series)


def _rates_chart(number: int, rates: ExitRates) -> Chart:
    last = len(rates.rates) - 1
    series = []
    for index, (shares, errors) in enumerate(zip(rates.rates, rates.errors, strict=True)):
        name = FULL_MODEL if index == last else f"exit_{index}"
        points = list(zip(rates.centres, shares, errors, strict=True))
        series.append(Series(exit_title(name), colour(name, index), points))
    title = f"Where {jets_title(rates.sample)} leave, against {observable_title(rates.observable).partition(' (')[0]}"
    axes = Axis(_observable(rates.observable)), Axis("Share of the jets", percent=True)
    return Chart(f"rates-{number}", title.replace("$p_T$", "pT"), *axes, series)


def _training_chart(number: int, panel: Panel, history: TrainingHistory) -> Chart:
    title = panel.title.replace("\n", " ")
    series = [one for name in panel.exits for one in _epochs(history, name, panel.quantity)]
    y = Axis(title, percent=panel.quantity == "accuracy")
    return Chart(f"training-{number}", title, Axis("Epoch"), y, series)


def _epochs(history: TrainingHistory, name: str, quantity: str) -> Iterator[Series]:
    index = history.exit_names.index(name)
    for part, title in (("train", "training"), ("val", "validation")):
        measured = [(record.epoch + 1, getattr(record, f"{part}_{quantity}")) for record in history.epochs]
        points = [(float(epoch), float(values[index]), 0.0) for epoch, values in measured if values is not None]
        yield Series(f"{exit_title(name)}, {title}", colour(name, index), points, dashed=part == "train")
