"""The chapter on the promise: what it says, what it costs for which mix of classes, and the trade-off around it."""

import re
from collections.abc import Iterator, Sequence

from phaze_ee.names import FULL_MODEL, exit_title, quantity, shares_title
from phaze_ee.report import charts
from phaze_ee.report.absent import no_policy
from phaze_ee.report.content import Content, Promise
from phaze_ee.report.markup import chapter, grid, missing, paragraph, percent, section, side, table, tiles
from phaze_ee.report.risks import risk_charts
from phaze_ee.report.sequence import SEQUENCE, tested_sequence
from phaze_ee.report.slider import slider, thresholds_text
from phaze_ee.results.benchmark import LatencyReport
from phaze_ee.results.policy import DynamicResults, StepEvaluation
from phaze_ee.results.project import ProjectResults
from phaze_ee.tables.style import in_percent, with_error

_CLASS_NAME = re.compile(r"\blabel_(?=\w)")  # label_Hbb is written as Hbb
_FILES = "for the mix of the test jets"
_SCORES = {
    "window": "window: the distance of ln(p_signal / p_background) from the cut of the target. Jets far from it leave",
    "confidence": "confidence: the largest class probability",
    "margin": "margin: the largest class probability minus the second largest",
    "entropy": "entropy: 1 − entropy / its largest value, which is 1 for a certain answer",
    "patience": "patience: the number of exits in a row with the same class",
    "gate": "gate: the estimated probability that later exits gain less than they cost",
}
_RISKS = {
    "signal lost": "signal jets that the full model accepts and the policy does not, of those that the full model "
    "accepts",
    "background added": "background jets that the policy accepts and the full model does not, of those that one of the "
    "two accepts",
    "jets made wrong": "jets that the full model has right and the policy wrong, of all jets that count",
    "accuracy lost": "jets that the full model has right and the policy wrong, less the opposite, of all that count",
    "other answers": "jets with another class than from the full model, of all jets that count",
}
_LEAVING = " of those that leave"


def promise_chapter(content: Content) -> str:
    """Return the promise, what it costs, and the trade-off around it."""
    dynamic = None if content.results is None else content.results.dynamic
    return chapter(
        "promise",
        "Promise",
        _promise(content.promise, content),
        *(
            [no_policy(content)]
            if content.results is None or dynamic is None
            else _policy_parts(content, content.results, dynamic)
        ),
    )


def promise_box(promise: Promise) -> str:
    """Return the promise of a policy, and whether it holds."""
    tested = f"Target {promise.target}: {promise.sample}."
    if not promise.holds:
        return statement_box(promise) + paragraph(f"Nothing is promised. {tested}", "note")
    return statement_box(promise) + paragraph(f"{tested} {confidence_text(promise)}", "note")


def statement_box(promise: Promise) -> str:
    """Return the promise of a policy in words."""
    return paragraph(_CLASS_NAME.sub("", promise.statement), "promise" if promise.holds else "no-promise")


def confidence_text(promise: Promise) -> str:
    """Return what the confidence of a promise means; empty if it has none."""
    if promise.confidence is None:
        return ""
    share = f"{100 * (1 - promise.confidence):.3g}"
    return f"Confidence {promise.confidence:.4g}: at most {share} % of such calibrations break their promise."


def _promise(promise: Promise | None, content: Content) -> str:
    if promise is None:
        return missing("There is no exit policy, so nothing is promised.", content.command("calibrate"))
    return promise_box(promise)


def _policy_parts(content: Content, results: ProjectResults, dynamic: DynamicResults) -> Iterator[str]:
    yield tiles(_headlines(results, dynamic))
    yield paragraph(f"Mix of the test jets: {_files_mix(results)}.", "note")
    yield section("outcome", "On the test jets", _risks(dynamic), _policy(dynamic))
    yield section(
        "tradeoff",
        "Trade-off",
        charts.tradeoff(dynamic).html(),
        paragraph(_axes(dynamic), "note"),
        _on_curves(dynamic),
        _bounds(dynamic),
        grid(chart.html() for chart in risk_charts(dynamic)),
        slider(dynamic, content.command("calibrate")),
    )


def _risks(dynamic: DynamicResults) -> str:
    """Return what is lost on the test jets, beside what was promised, and how it is counted."""
    rows = [
        (
            risk.name,
            f"{100 * risk.epsilon:.3g} %",
            in_percent(risk.rate.value, risk.rate.error),
            f"{risk.rate.jets:,}",
        )
        for risk in dynamic.policy.risks
    ]
    if not rows:
        return ""
    kinds = dict.fromkeys(risk.name.partition(",")[0].removesuffix(_LEAVING) for risk in dynamic.policy.risks)
    meanings = [f"{kind}: {_RISKS[kind]}" for kind in kinds if kind in _RISKS]
    head = ("risk", "promised limit", "on the test jets", f"jets that count, of {dynamic.jets:,}")
    return table(head, rows) + "".join(
        paragraph(f"{meaning[:1].upper()}{meaning[1:]}.", "note") for meaning in meanings
    )


def _policy(dynamic: DynamicResults) -> str:
    """Return where the policy lets jets leave."""
    policy = dynamic.policy
    named = zip(dynamic.exits, policy.thresholds, strict=False)  # the full model has none
    rows = [
        (
            "jets with another class than from the full model",
            in_percent(policy.disagreement.value, policy.disagreement.error),
        ),
        ("score", policy.score),
        *((f"threshold at {exit_title(name)}", thresholds_text([threshold])) for name, threshold in named),
    ]
    meaning = f" Score {_SCORES[policy.score]}." if policy.score in _SCORES else ""
    rule = f"A jet leaves at the first exit where its score reaches the threshold.{meaning}"
    return table(("policy", "value"), rows) + paragraph(rule, "note")


def _headlines(results: ProjectResults, dynamic: DynamicResults) -> Iterator[tuple[str, str]]:
    """Yield the figures of the tiles with their meaning: for the class prior if there is one, then for the test jets.

    The accuracy lost is that of the test jets first: its paired error is known for them alone.
    """
    policy, prior, latency = dynamic.policy, dynamic.prior, results.benchmark.latency
    full = results.evaluation.exits[FULL_MODEL]
    accuracy, full_accuracy = (in_percent(one.accuracy, one.accuracy_error) for one in (policy, full))
    lost = in_percent(abs(policy.accuracy_drop), policy.accuracy_drop_error)
    below = f"accuracy {side(policy.accuracy_drop)} the full model on the same jets, {_FILES}"
    if prior is None:
        yield percent(policy.macs_share), f"of the full model's MACs, {_FILES}"
        yield from _speed(latency)
        yield accuracy, f"accuracy, {_FILES}; the full model has {full_accuracy}"
        yield lost, below
        return
    mix = f"for {shares_title(prior.class_shares or {})}"
    yield (
        in_percent(prior.cost_share, prior.cost_share_error),
        f"of the full model's MACs, {mix}; {percent(policy.macs_share)} {_FILES}",
    )
    yield from _speed(latency)
    if prior.accuracy is not None and prior.accuracy_error is not None and prior.full_accuracy is not None:
        yield (
            in_percent(prior.accuracy, prior.accuracy_error),
            f"accuracy, {mix} (full model {percent(prior.full_accuracy)}); {accuracy} {_FILES} "
            f"(full model {full_accuracy})",
        )
        drop = prior.full_accuracy - prior.accuracy
        below += f"; {100 * abs(drop):.2f} % {side(drop)} {mix}"
    yield lost, below


def _speed(latency: LatencyReport | None) -> Iterator[tuple[str, str]]:
    if latency is None or latency.gain is None:
        return
    gain, shares = latency.gain, latency.class_shares
    mix, others = (_FILES, "") if shares is None else (f"for {shares_title(shares)}", "; no other mix was timed")
    speed = with_error(gain.speed, gain.speed_error) if gain.speed_error else f"{gain.speed:.2f}"
    batches = f"in batches of {quantity(gain.batch_size, 'jet')} on {latency.conditions}"
    yield f"{speed} ×", f"the full model's jets/s, {mix}, {batches}{others}"


def _files_mix(results: ProjectResults) -> str:
    """Return the shares of the classes among the test jets."""
    counts, jets = results.evaluation.jets_per_class, max(results.evaluation.jets, 1)
    shares = {name: count / jets for name, count in counts.items() if count}
    return shares_title(shares)


def _axes(dynamic: DynamicResults) -> str:
    """Return what the chart of the trade-off shows."""
    meanings = [_SCORES[curve.score] for curve in dynamic.curves if curve.score in _SCORES]
    others = "; ".join(meanings)
    curves = f" Curves: the best policies found with each score, which promise nothing ({others})." if others else ""
    return f"MACs: multiply-accumulate operations. Cost and accuracy are {_FILES}.{curves}"


def _on_curves(dynamic: DynamicResults) -> str:
    """Return what the sequence of the calibration is; without one, why the policy may be on no curve."""
    policy = dynamic.policy
    if sequence := tested_sequence(dynamic):
        return paragraph(f"{SEQUENCE.capitalize()}: {_tested(sequence, policy.score)}", "note")
    if not dynamic.curves or any(curve.score == policy.score for curve in dynamic.curves):
        return ""
    target = policy.target.partition(":")[0].replace("_", " ")
    return paragraph(
        "The policy is not on the curves. Their thresholds save MACs at the least loss of accuracy. The policy has "
        f"the target {target}, which limits the risks above; it may lose accuracy where that target allows it.",
        "note",
    )


def _tested(sequence: Sequence[StepEvaluation], score: str) -> str:
    """Return how a sequence was tested, and which of its policies is the one that is shown."""
    if not any(step.upper_limits for step in sequence):
        return f"policies with score {score}, among which the calibration chose; no jet tested them."
    passed = [step for step in sequence if step.passed]
    outcome = "The policy is one that passed, but not the last"
    if len(passed) == 1:
        outcome = "None passed, so the policy is the full model"
    elif passed[-1].is_policy:
        outcome = "The policy is the last that passed"
    tested = "from the full model to the fastest, tested in this order on calibration jets"
    return f"policies with score {score} {tested}. {outcome}."


def _bounds(dynamic: DynamicResults) -> str:
    bounds = dynamic.bounds
    oracle = f"an accuracy of {percent(bounds.oracle.accuracy)} at {percent(bounds.oracle.macs_share)} of the MACs"
    return paragraph(
        f"Not drawn: the oracle, which lets each jet leave at the first exit that is right, reaches {oracle}.", "note"
    )
