"""The chapters of the report of a project that was run with several seeds: means, spreads, and each seed's figures."""

from collections.abc import Iterator, Sequence

from phaze_ee.names import FULL_MODEL, POLICY, class_title, exit_title, quantity, shares_title
from phaze_ee.report import charts
from phaze_ee.report.absent import no_evaluation
from phaze_ee.report.content import Content, OneSeed
from phaze_ee.report.differences import differences
from phaze_ee.report.markup import bars, chapter, items, missing, paragraph, percent, section, side, table, tiles
from phaze_ee.report.promise import confidence_text, statement_box
from phaze_ee.report.targets import targets
from phaze_ee.results.project import ProjectResults
from phaze_ee.results.seeds import OverSeeds, SeedsPolicy, SeedsResults
from phaze_ee.tables.regression import seeds_target_rows
from phaze_ee.tables.style import OWN_PARTICLES, UNKNOWN, in_percent, with_error

_SPREAD = "±: standard deviation over the seeds."
_FLOOR = "What differs by less is not claimed to differ."
_JETS = "for the mix of the test jets"


def seeds_promise(content: Content, results: SeedsResults) -> str:
    """Return the chapter on the promises of the seeds, what they cost on average, and the figures of each seed."""
    parts = [promises_of_seeds(content.seeds)]
    if results.exits:
        parts += [tiles(_headlines(results)), paragraph(f"Mean of {_evaluated(results)}. {_SPREAD} {_FLOOR}", "note")]
        parts.append(_outcome(results.policy))
    return chapter(
        "promise",
        "Promise",
        *parts,
        section("seeds", "The seeds", _seeds_table(content.seeds), items(results.notes), _own_reports(content.seeds)),
        section("tradeoff", "Trade-off", *_tradeoff(content.seeds)),
    )


def promises_of_seeds(seeds: Sequence[OneSeed]) -> str:
    """Return the promises of the seeds, which have a policy each; equal ones once."""
    promises = [one.promise for one in seeds if one.promise is not None]
    if not promises:
        return paragraph("No seed has an exit policy: nothing is promised.", "missing")
    drawn = []
    for promise in {promise.statement: promise for promise in promises}.values():
        own = [
            str(one.run.seed) for one in seeds if one.promise is not None and one.promise.statement == promise.statement
        ]
        whose = f"{'Seed' if len(own) == 1 else 'Seeds'} {', '.join(own)}"
        each = "" if len(own) == 1 else ", each with a policy of its own"
        means = confidence_text(promise) if promise.holds else "Nothing is promised."
        drawn.append(statement_box(promise) + paragraph(f"{whose}{each}. {means}", "note"))
    return "".join(drawn)


def seeds_physics(content: Content, results: SeedsResults) -> str:
    """Return the chapter on where jets leave with the policy of each seed, and on mean rejections."""
    if not results.exits:
        return chapter("physics", "Physics", no_evaluation(content))
    return chapter(
        "physics",
        "Physics",
        section("leaving", "Where jets leave", _leaving(content.seeds)),
        section("rejections", "Rejections", _rejections(content, results)),
        paragraph(
            "ROC curves, confusion, calibration of probabilities and the dependence on observables are of one network: "
            "see the reports of the seeds.",
            "note",
        ),
    )


def seeds_model(content: Content, results: SeedsResults) -> str:
    """Return the chapter on the mean exits, their differences to the full model, and the exits of each seed."""
    if not results.exits:
        return chapter("model", "Model", no_evaluation(content))
    rows = [
        (exit_title(name), _share(exit_.accuracy), _mean(exit_.roc_auc), _mean(exit_.loss), _share(exit_.macs_share))
        for name, exit_ in results.exits.items()
    ]
    head = ("answer of", "accuracy", "AUC", "cross-entropy", "MACs of full")
    projects = [one.results for one in content.seeds if one.results is not None]
    found = results.differences
    difference = paragraph("There is no exit.", "missing") if found is None else differences(found, "answer of")
    return chapter(
        "model",
        "Model",
        section("exits", "Exits", table(head, rows), paragraph(f"{_SPREAD} {OWN_PARTICLES}.", "note")),
        targets(seeds_target_rows(results.exits), _SPREAD),
        section("differences", "Differences to the full model", difference),
        section("exits-of-seeds", "Exits of each seed", charts.comparison(projects).html()),
    )


def seeds_deployment(content: Content, results: SeedsResults) -> str:
    """Return the chapter on mean measured times."""
    timed = [(exit_title(name), _speed(exit_.jets_per_second)) for name, exit_ in results.exits.items()]
    latency = next((one.results.benchmark.latency for one in content.seeds if one.results is not None), None)
    if latency is None or all(speed == UNKNOWN for _, speed in timed):
        return chapter(
            "deployment", "Deployment", missing("No measured times of all seeds.", content.command("benchmark"))
        )
    batch = quantity(max(entry.batch_size for entry in latency.entries), "jet")
    note = f"In batches of {batch}, on {latency.conditions}. {_SPREAD}"
    return chapter(
        "deployment",
        "Deployment",
        section("times", "Times", table(("answer of", "jets/s"), timed), paragraph(note, "note")),
    )


def hashes_of_seeds(seeds: Sequence[OneSeed]) -> str:
    """Return the hashes of the models and policies of the seeds."""
    rows = [
        (
            one.run.seed,
            _hash(one.results.evaluation.model_hash),
            _hash(None if one.results.dynamic is None else one.results.dynamic.policy_hash),
        )
        for one in seeds
        if one.results is not None
    ]
    return table(("seed", "model", "policy"), rows) + paragraph("The first 16 digits of each SHA-256.", "note")


def _evaluated(results: SeedsResults) -> str:
    return quantity(len(results.exits[FULL_MODEL].accuracy.values), "seed")


def _headlines(results: SeedsResults) -> Iterator[tuple[str, str]]:
    """Yield the figures of the tiles with their meaning: for the class prior if there is one, then for test jets."""
    full, policy = results.exits[FULL_MODEL].accuracy, results.policy
    if policy is None:
        yield _share(full), f"accuracy of the full model, {_JETS}"
        return
    mix = "" if policy.prior_share is None else f"for {shares_title(policy.class_shares or {})}; "
    if policy.prior_share is not None:
        yield _share(policy.prior_share), f"of the full model's MACs, {mix}{_share(policy.macs_share)} {_JETS}"
    else:
        yield _share(policy.macs_share), f"of the full model's MACs, {_JETS}"
    if policy.speed is not None:
        yield (
            f"{_mean(policy.speed)} ×",
            f"the full model's jets/s, in the largest batches, {mix or _JETS}".rstrip("; "),
        )
    own = _share(results.exits[POLICY].accuracy)
    if policy.prior_accuracy is not None:
        yield (
            _share(policy.prior_accuracy),
            f"accuracy, {mix}the full model has {_share(policy.prior_full_accuracy)}; {own} {_JETS}, where the full "
            f"model has {_share(full)}",
        )
    else:
        yield own, f"accuracy, {_JETS}; the full model has {_share(full)}"
    drop = policy.accuracy_drop
    difference = in_percent(abs(drop.mean), drop.spread)
    yield difference, f"accuracy {side(drop.mean)} the full model on the same jets, {_JETS}"


def _outcome(policy: SeedsPolicy | None) -> str:
    """Return what the policies lose on the test jets, beside the limits."""
    if policy is None or not policy.risks:
        return ""
    rows = [
        (name, f"{100 * policy.limits[name]:g} %", _share(rate), f"{100 * max(rate.values):.3g} %")
        for name, rate in policy.risks.items()
    ]
    return section("outcome", "On the test jets", table(("risk", "limit", "mean of the seeds", "largest"), rows))


def _seeds_table(seeds: Sequence[OneSeed]) -> str:
    head = (
        "seed", "accuracy of the full model", "of the policy", "accuracy lost", "MACs, of the full model's",
        "the same, for the class prior", "jets/s, × the full model's", "promise",
    )  # fmt: skip
    rows = [(one.run.seed, *_figures(one.results), _state(one)) for one in seeds]
    columns = [column for column in zip(head, *rows, strict=True) if set(column[1:]) != {UNKNOWN}]
    head, *rows = zip(*columns, strict=True)
    note = "±: error for the number of test jets. Accuracies and MACs: for the mix of the test jets."
    return table(head, rows) + paragraph(note, "note")


def _figures(results: ProjectResults | None) -> tuple[str, ...]:
    if results is None:
        return (UNKNOWN,) * 6
    full, dynamic = results.evaluation.exits[FULL_MODEL], results.dynamic
    accuracy = in_percent(full.accuracy, full.accuracy_error)
    if dynamic is None:
        return accuracy, *(UNKNOWN,) * 5
    policy, prior, latency = dynamic.policy, dynamic.prior, results.benchmark.latency
    gain = None if latency is None else latency.gain
    return (
        accuracy,
        in_percent(policy.accuracy, policy.accuracy_error),
        in_percent(policy.accuracy_drop, policy.accuracy_drop_error),
        percent(policy.macs_share),
        UNKNOWN if prior is None else in_percent(prior.cost_share, prior.cost_share_error),
        UNKNOWN if gain is None else with_error(gain.speed, gain.speed_error),
    )


def _state(one: OneSeed) -> str:
    if one.promise is None:
        return f"none ({one.run.state})"
    return "holds" if one.promise.holds else "none"


def _own_reports(seeds: Sequence[OneSeed]) -> str:
    return missing("Each seed is a project with a report of its own, with a slider of the thresholds.", seeds[0].report)


def _tradeoff(seeds: Sequence[OneSeed]) -> Iterator[str]:
    judged = [one.results for one in seeds if one.results is not None and one.results.dynamic is not None]
    if not judged:
        yield missing("No results of an exit policy on test jets.", f"{seeds[0].report.replace('report', 'evaluate')}")
        return
    yield charts.policies(judged).html()
    yield paragraph(
        "There is no slider here, for the thresholds are of one network: a slider is in the report of each seed.",
        "note",
    )


def _leaving(seeds: Sequence[OneSeed]) -> str:
    rows = []
    for one in seeds:
        dynamic = None if one.results is None else one.results.dynamic
        if dynamic is not None:
            names = [(exit_title(name), charts.colour(name, index)) for index, name in enumerate(dynamic.exits)]
            shares = dynamic.policy.exit_fractions
            rows.append((f"Seed {one.run.seed}", [(*name, share) for name, share in zip(names, shares, strict=True)]))
    return bars(rows) if rows else paragraph("No seed has an exit policy that is evaluated.", "missing")


def _rejections(content: Content, results: SeedsResults) -> str:
    first = next(one.results for one in content.seeds if one.results is not None)
    cuts = first.evaluation.exits[FULL_MODEL].rejections
    if not cuts:
        return paragraph("None: c.background names no class that has jets.", "missing")
    head = [f"{class_title(cut.signal)}, {100 * cut.signal_efficiency:g}\u00a0%" for cut in cuts]
    rows = [
        (exit_title(name), *(_mean(exit_.rejections.get(cut.signal)) for cut in cuts))
        for name, exit_ in results.exits.items()
    ]
    note = f"Background: {class_title(cuts[0].background)}, at each signal efficiency. {_SPREAD}"
    return table(("answer of", *head), rows) + paragraph(note, "note")


def _share(values: OverSeeds | None) -> str:
    """Return a mean share with its spread in percent."""
    return UNKNOWN if values is None else in_percent(values.mean, values.spread)


def _mean(values: OverSeeds | None) -> str:
    """Return a mean with its spread."""
    return UNKNOWN if values is None else with_error(values.mean, values.spread)


def _speed(speed: OverSeeds | None) -> str:
    if speed is None:
        return UNKNOWN
    return f"{speed.mean:,.0f} ± {speed.spread:,.0f}" if len(speed.values) > 1 else f"{speed.mean:,.0f}"


def _hash(digest: str | None) -> str:
    return (digest or UNKNOWN)[:16]
