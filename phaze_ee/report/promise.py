"""The chapter on the promise: what it says, what it costs for which mix of classes, and the trade-off around it."""

from collections.abc import Iterator

from phaze_ee.names import FULL_MODEL, quantity
from phaze_ee.report import charts
from phaze_ee.report.absent import no_policy
from phaze_ee.report.content import Content, Promise
from phaze_ee.report.markup import chapter, grid, missing, paragraph, percent, section, table, tiles
from phaze_ee.report.risks import risk_charts
from phaze_ee.report.sequence import SEQUENCE, tested_sequence
from phaze_ee.report.slider import slider, thresholds_text
from phaze_ee.results.benchmark import LatencyReport
from phaze_ee.results.policy import DynamicResults
from phaze_ee.results.project import ProjectResults
from phaze_ee.tables.style import in_percent, shares_title, with_error

_FILES = "for the mix of the test jets"
_SCORES = {
    "window": "window: the distance of ln(p_signal / p_background) from the cut of the target. Jets far from it leave",
}


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
    if promise.holds:
        return paragraph(promise.statement, "promise") + paragraph(tested, "note")
    return paragraph(promise.statement, "no-promise") + paragraph(f"Nothing is promised. {tested}", "note")


def _promise(promise: Promise | None, content: Content) -> str:
    if promise is None:
        return missing("There is no exit policy, so nothing is promised.", content.command("calibrate"))
    return promise_box(promise)


def _policy_parts(content: Content, results: ProjectResults, dynamic: DynamicResults) -> Iterator[str]:
    policy = dynamic.policy
    yield tiles(_headlines(results, dynamic))
    yield paragraph(f"Mix of the test jets: {_files_mix(results)}.", "note")
    realised = [
        (risk.name.replace("_", " "), f"{100 * risk.epsilon:g} %", in_percent(risk.rate.value, risk.rate.error))
        for risk in policy.risks
    ]
    yield section(
        "outcome",
        "On the test jets",
        table(("risk", "limit", f"on {dynamic.jets:,} test jets"), realised) if realised else "",
        table(
            ("policy", "value"),
            [
                ("score", policy.score),
                (
                    "other class than from the full model",
                    in_percent(policy.disagreement.value, policy.disagreement.error),
                ),
                ("thresholds", thresholds_text(policy.thresholds)),
            ],
        ),
        paragraph(f"Score {_SCORES[policy.score]}.", "note") if policy.score in _SCORES else "",
    )
    yield section(
        "tradeoff",
        "Trade-off",
        charts.tradeoff(dynamic).html(),
        _on_curves(dynamic),
        _bounds(dynamic),
        grid(chart.html() for chart in risk_charts(dynamic)),
        slider(dynamic, content.command("calibrate")),
    )


def _headlines(results: ProjectResults, dynamic: DynamicResults) -> Iterator[tuple[str, str]]:
    """Yield the figures of the tiles with their meaning: for the class prior if there is one, then for the test jets.

    The accuracy lost is that of the test jets first: its paired error is known for them alone.
    """
    policy, prior, latency = dynamic.policy, dynamic.prior, results.benchmark.latency
    full = results.evaluation.exits[FULL_MODEL]
    accuracy, full_accuracy = (in_percent(one.accuracy, one.accuracy_error) for one in (policy, full))
    lost = in_percent(policy.accuracy_drop, policy.accuracy_drop_error)
    below = f"accuracy below the full model on the same jets, {_FILES}"
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
        below += f"; {100 * (prior.full_accuracy - prior.accuracy):.2f} % {mix}"
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


def _on_curves(dynamic: DynamicResults) -> str:
    """Return what the sequence of the calibration is; without one, why the policy may be on no curve."""
    policy = dynamic.policy
    if tested_sequence(dynamic):
        return paragraph(
            f"{SEQUENCE.capitalize()}: policies with score {policy.score} from the full model to the fastest, "
            "tested in this order on calibration jets. The policy is the last that passed.",
            "note",
        )
    if not dynamic.curves or any(curve.score == policy.score for curve in dynamic.curves):
        return ""
    target = policy.target.partition(":")[0].replace("_", " ")
    return paragraph(
        "The policy is not on the curves. Their thresholds save MACs at the least loss of accuracy. The policy has "
        f"the target {target}, which limits the risks above; it may lose accuracy where that target allows it.",
        "note",
    )


def _bounds(dynamic: DynamicResults) -> str:
    bounds = dynamic.bounds
    oracle = f"{percent(bounds.oracle.accuracy)} at {percent(bounds.oracle.macs_share)} of the MACs"
    return paragraph(f"Not drawn: the oracle, which knows the true classes, reaches {oracle}.", "note")
