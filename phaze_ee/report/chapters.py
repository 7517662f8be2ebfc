"""The chapters of a project's report: promise, model, deployment and dataset; and the comparison."""

from collections.abc import Iterator, Sequence

from phaze_ee.names import FULL_MODEL, POLICY, class_title, exit_title, quantity
from phaze_ee.report import charts
from phaze_ee.report.absent import no_evaluation, no_policy
from phaze_ee.report.content import Content, Promise
from phaze_ee.report.markup import (
    chapter,
    folded,
    from_markdown,
    grid,
    items,
    missing,
    paragraph,
    percent,
    section,
    table,
    tiles,
)
from phaze_ee.report.slider import slider, thresholds_text
from phaze_ee.results.base import Traced
from phaze_ee.results.benchmark import LatencyReport
from phaze_ee.results.policy import DynamicResults
from phaze_ee.results.project import ProjectResults
from phaze_ee.tables.style import UNKNOWN, in_percent, number


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
            else _policy_parts(content.results, dynamic)
        ),
    )


def model_chapter(content: Content) -> str:
    """Return the exits, the training curves and the placement of exits."""
    results = content.results
    exits = no_evaluation(content) if results is None else _exits_table(results)
    history = content.history
    training = (
        missing("No training history of this model.", content.command("train"))
        if history is None
        else grid(chart.html() for chart in charts.training(history))
    )
    return chapter(
        "model",
        "Model",
        section("exits", "Exits", exits),
        section("training", "Training", training),
        section("placement", "Placement of exits", _placement(content)),
    )


def deployment_chapter(content: Content) -> str:
    """Return what a jet costs, measured times, and the model card of the export."""
    latency = None if content.results is None else content.results.benchmark.latency
    times = missing("No measured times.", content.command("benchmark")) if latency is None else _times(latency)
    card = (
        missing("No export of this model.", content.command("export"))
        if content.card is None
        else from_markdown(content.card)
    )
    return chapter("deployment", "Deployment", section("times", "Times", times), section("card", "Model card", card))


def dataset_chapter(content: Content, versions: Sequence[tuple[str, str]]) -> str:
    """Return the judged jets, the configuration, versions, and the hashes of all results."""
    results = content.results
    jets = no_evaluation(content) if results is None else _jets(results)
    files = [] if results is None else results.evaluation.files
    return chapter(
        "dataset",
        "Dataset",
        section("jets", "Judged jets", jets, folded(quantity(len(files), "file"), "\n".join(files)) if files else ""),
        section("configuration", "Configuration", folded("The configuration of the project", content.configuration)),
        section("versions", "Versions", table(("program", "version"), versions)),
        section("hashes", "Hashes", _hashes(content)),
    )


def comparison_chapter(projects: Sequence[ProjectResults]) -> str:
    """Return full models and policies of projects side by side."""
    rows = [
        (
            project.name,
            exit_title(name),
            in_percent(exit_.accuracy, exit_.accuracy_error),
            number(exit_.roc_auc, ".4f"),
            f"{project.cost(name, 'macs') / 1e6:,.1f}",
            f"{project.cost(name, 'params'):,.0f}",
        )
        for project in projects
        for name, exit_ in project.with_policy.exits.items()
        if name in (FULL_MODEL, POLICY)
    ]
    head = ("project", "answer of", "accuracy", "AUC", "MACs (M)", "parameters")
    return chapter(
        "comparison", "Comparison", table(head, rows), charts.comparison(projects).html(), _policies(projects)
    )


def _policies(projects: Sequence[ProjectResults]) -> str:
    judged = [project for project in projects if project.dynamic is not None]
    return charts.policies(judged).html() if judged else ""


def promise_box(promise: Promise) -> str:
    """Return the promise of a policy, and whether it holds."""
    tested = f"Target {promise.target}, tested on {promise.jets:,} calibration jets."
    if promise.holds:
        return paragraph(promise.statement, "promise") + paragraph(tested, "note")
    return paragraph(promise.statement, "no-promise") + paragraph(f"Nothing is promised. {tested}", "note")


def _promise(promise: Promise | None, content: Content) -> str:
    if promise is None:
        return missing("There is no exit policy, so nothing is promised.", content.command("calibrate"))
    return promise_box(promise)


def _policy_parts(results: ProjectResults, dynamic: DynamicResults) -> Iterator[str]:
    policy = dynamic.policy
    yield tiles(_headlines(results, dynamic))
    realised = [
        (risk.name.replace("_", " "), f"{100 * risk.epsilon:g} %", in_percent(risk.rate.value, risk.rate.error))
        for risk in policy.risks
    ]
    yield section(
        "outcome",
        "On the judged jets",
        table(("risk", "limit", f"on {dynamic.jets:,} judged jets"), realised) if realised else "",
        table(
            ("policy", "value"),
            [
                ("score", policy.score),
                ("jets with another class", in_percent(policy.disagreement.value, policy.disagreement.error)),
                ("thresholds", thresholds_text(policy.thresholds)),
            ],
        ),
    )
    yield section("tradeoff", "Trade-off", charts.tradeoff(dynamic).html(), _bounds(dynamic), slider(dynamic))


def _headlines(results: ProjectResults, dynamic: DynamicResults) -> Iterator[tuple[str, str]]:
    policy, latency = dynamic.policy, results.benchmark.latency
    yield percent(policy.macs_share), "of the full model's MACs"
    if latency is not None and latency.gain is not None:
        jets = quantity(latency.gain.batch_size, "jet")
        yield f"{latency.gain.speed:.2f} ×", f"the full model's jets/s, in batches of {jets} on {latency.conditions}"
    full = results.evaluation.exits[FULL_MODEL]
    yield (
        in_percent(policy.accuracy, policy.accuracy_error),
        f"accuracy; the full model has {in_percent(full.accuracy, full.accuracy_error)}",
    )
    yield (
        in_percent(policy.accuracy_drop, policy.accuracy_drop_error),
        "accuracy below the full model, on the same jets",
    )


def _bounds(dynamic: DynamicResults) -> str:
    bounds = dynamic.bounds
    oracle = f"{percent(bounds.oracle.accuracy)} at {percent(bounds.oracle.macs_share)} of the MACs"
    return paragraph(f"Not drawn: the oracle, which knows the true classes, reaches {oracle}.", "note")


def _exits_table(results: ProjectResults) -> str:
    rows = [
        (
            exit_title(name),
            in_percent(exit_.accuracy, exit_.accuracy_error),
            number(exit_.roc_auc, ".4f"),
            f"{exit_.loss:.4f}",
            f"{results.cost(name, 'macs') / 1e6:,.1f}",
            f"{results.cost(name, 'params'):,.0f}",
        )
        for name, exit_ in results.with_policy.exits.items()
    ]
    convention = f"MACs of one jet of {results.benchmark.particles} particles; of the policy, the mean over its exits."
    head = ("answer of", "accuracy", "AUC", "cross-entropy", "MACs (M)", "parameters")
    return paragraph(results.evaluation.model) + table(head, rows) + paragraph(convention, "note")


def _placement(content: Content) -> str:
    found = content.placement
    if found is None:
        return missing("Not searched.", content.command("place"))
    rows = [
        (title, ", ".join(map(str, point.exit_stages)) or "none", f"{percent(point.macs_share)}",
         in_percent(point.accuracy, point.accuracy_error))
        for title, point in (("recommended", found.recommended), ("full model", found.full_model))
    ]  # fmt: skip
    head = ("placement", "exits after stages", "MACs of full", "accuracy")
    return table(head, rows) + charts.placement(found).html()


def _times(latency: LatencyReport) -> str:
    rows = [
        (exit_title(entry.name), f"{entry.batch_size:,}", f"{entry.jets_per_second:,.0f}", f"{entry.p50_ms:.3g}",
         f"{entry.p99_ms:.3g}", f"{entry.mean_macs / 1e6:,.1f}")
        for entry in sorted([*latency.entries, *latency.chosen], key=lambda entry: entry.batch_size)
    ]  # fmt: skip
    jets = f"on average {latency.mean_multiplicity:.1f} particles a jet"
    head = ("answers of", "batch", "jets/s", "median (ms a jet)", "99 % (ms a jet)", "MACs (M)")
    return paragraph(f"Measured on {latency.conditions}; {jets}.") + table(head, rows)


def _jets(results: ProjectResults) -> str:
    evaluation = results.evaluation
    rows = [(class_title(name), f"{count:,}") for name, count in evaluation.jets_per_class.items()]
    return table(("class", "jets"), [*rows, ("all", f"{evaluation.jets:,}")]) + items(evaluation.notes)


def _hashes(content: Content) -> str:
    results = content.results
    files: dict[str, Traced | None] = {
        "evaluation": None if results is None else results.evaluation,
        "benchmark": None if results is None else results.benchmark,
        "policy, judged": None if results is None else results.dynamic,
        "other jets": content.ood,
        "placement": content.placement,
    }
    kinds = ("model_hash", "data_hash", "history_hash", "policy_hash")
    rows = [
        (name, *((getattr(file, kind) or UNKNOWN)[:16] for kind in kinds))
        for name, file in files.items()
        if file is not None
    ]
    if not rows:
        return no_evaluation(content)
    head = ("results", *(kind.replace("_hash", "") for kind in kinds))
    return table(head, rows) + paragraph("The first 16 digits of each SHA-256.", "note")
