"""The chapters of a project's report: promise, physics, model, deployment and dataset."""

from collections.abc import Iterator, Sequence

from phaze_ee.names import FULL_MODEL, POLICY, class_title, exit_title, observable_title, quantity
from phaze_ee.report import charts
from phaze_ee.report.content import Content, Promise
from phaze_ee.report.markup import (
    bars,
    chapter,
    folded,
    from_markdown,
    grid,
    items,
    missing,
    paragraph,
    section,
    table,
)
from phaze_ee.report.slider import rejection_text, slider
from phaze_ee.results.base import Traced
from phaze_ee.results.benchmark import LatencyReport
from phaze_ee.results.evaluation import ExitEvaluation, Rejection
from phaze_ee.results.policy import DynamicResults, MassAudit
from phaze_ee.results.project import ProjectResults
from phaze_ee.tables.style import UNKNOWN, in_percent, number, with_error


def promise_chapter(content: Content) -> str:
    """Return the promise, what it costs, and the trade-off around it."""
    dynamic = None if content.results is None else content.results.dynamic
    return chapter(
        "promise",
        "Promise",
        _promise(content.promise, content),
        *([_no_policy(content)] if dynamic is None else _policy_parts(dynamic)),
    )


def physics_chapter(content: Content) -> str:
    """Return where jets leave, rejections, ROC curves, confusion, calibration of probabilities, and audits."""
    results = content.results
    parts = [_no_evaluation(content)] if results is None else list(_physics(results, content))
    return chapter("physics", "Physics", *parts, _other_jets(content))


def model_chapter(content: Content) -> str:
    """Return the exits, the training curves and the placement of exits."""
    results = content.results
    exits = _no_evaluation(content) if results is None else _exits_table(results)
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
    jets = _no_evaluation(content) if results is None else _jets(results)
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
    return chapter("comparison", "Comparison", table(head, rows), charts.comparison(projects).html())


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


def _policy_parts(dynamic: DynamicResults) -> Iterator[str]:
    policy = dynamic.policy
    realised = [
        (risk.name.replace("_", " "), f"{100 * risk.epsilon:g} %", in_percent(risk.rate.value, risk.rate.error))
        for risk in policy.risks
    ]
    yield section(
        "outcome",
        "What became of it",
        table(("risk", "limit", f"on {dynamic.jets:,} judged jets"), realised) if realised else "",
        table(
            ("policy", "value"),
            [
                ("score", policy.score),
                ("accuracy", in_percent(policy.accuracy, policy.accuracy_error)),
                ("accuracy below the full model", in_percent(policy.accuracy_drop, policy.accuracy_drop_error)),
                ("MACs, share of the full model", f"{100 * policy.macs_share:.1f} %"),
                ("jets with another class", in_percent(policy.disagreement.value, policy.disagreement.error)),
                ("thresholds", ", ".join(f"{value:.4g}" for value in policy.thresholds)),
            ],
        ),
    )
    yield section("tradeoff", "Trade-off", charts.tradeoff(dynamic).html(), _bounds(dynamic), slider(dynamic))


def _bounds(dynamic: DynamicResults) -> str:
    bounds = dynamic.bounds
    oracle = f"{100 * bounds.oracle.accuracy:.1f} % at {100 * bounds.oracle.macs_share:.1f} % of the MACs"
    return paragraph(f"Not drawn: the oracle, which knows the true classes, reaches {oracle}.", "note")


def _physics(results: ProjectResults, content: Content) -> Iterator[str]:
    judged, dynamic = results.with_policy, results.dynamic
    yield section("leaving", "Where jets leave", _no_policy(content) if dynamic is None else _leaving(dynamic))
    cuts = judged.exits[FULL_MODEL].rejections
    rejection = charts.rejections(dynamic) if dynamic is not None else None
    yield section(
        "rejections",
        "Rejections",
        _rejections(judged.exits, cuts) if cuts else _no_background(content),
        "" if rejection is None else rejection.html(),
    )
    roc = charts.roc_charts(results)
    yield section("roc", "ROC curves", grid(chart.html() for chart in roc) if roc else _no_background(content))
    yield section("confusion", "Confusion", *(_confusion(results, name) for name in (FULL_MODEL, POLICY)))
    yield section("calibration", "Calibration of probabilities", _calibration(results))
    yield section("audits", "Audits", _no_policy(content) if dynamic is None else _audits(dynamic))


def _leaving(dynamic: DynamicResults) -> str:
    names = list(dynamic.exits)
    colours = [charts.colour(name, index) for index, name in enumerate(names)]
    counts = dynamic.policy.exits_per_class
    shares = {name: [count / max(sum(row), 1) for count in row] for name, row in counts.items()}
    titles = [exit_title(name) for name in names]
    drawn = [
        (class_title(name), list(zip(titles, colours, row, strict=True))) for name, row in shares.items() if any(row)
    ]
    rows = [(class_title(name), *(f"{count:,}" for count in row), f"{sum(row):,}") for name, row in counts.items()]
    return bars(drawn) + table(("class", *titles, "jets"), rows)


def _rejections(exits: dict[str, ExitEvaluation], cuts: Sequence[Rejection]) -> str:
    head = [f"{class_title(cut.signal)}, {cut.signal_efficiency:.0%}" for cut in cuts]
    rows = [(exit_title(name), *map(rejection_text, exit_.rejections)) for name, exit_ in exits.items()]
    background = paragraph(f"Background: {class_title(cuts[0].background)}, at each signal efficiency.", "note")
    return background + table(("answer of", *head), rows)


def _confusion(results: ProjectResults, name: str) -> str:
    exit_ = results.with_policy.exits.get(name)
    if exit_ is None:
        return ""
    titles = [class_title(label) for label in results.evaluation.classes]
    rows = [
        (title, *(f"{count / max(sum(row), 1):.1%}" for count in row))
        for title, row in zip(titles, exit_.confusion_matrix, strict=True)
    ]
    head = ("true class", *(f"as {title}" for title in titles))
    return paragraph(f"{exit_title(name).capitalize()}: share of each true class.") + table(head, rows)


def _calibration(results: ProjectResults) -> str:
    behaviour = {} if results.dynamic is None else results.dynamic.exits
    rows = []
    for name, exit_ in results.evaluation.exits.items():
        found = behaviour.get(name)
        after, leaving, auroc = (
            (None, None, None)
            if found is None
            else (found.expected_calibration_error, found.leaving_calibration_error, found.failure_auroc)
        )
        numbers = (exit_.expected_calibration_error, after, leaving, auroc)
        rows.append((exit_title(name), *(number(value, ".4f") for value in numbers)))
    if results.dynamic is not None:
        policy = results.dynamic.policy.expected_calibration_error
        rows.append((exit_title(POLICY), UNKNOWN, number(policy, ".4f"), UNKNOWN, UNKNOWN))
    head = ("answer of", "ECE, all jets", "ECE after temperature", "ECE, jets that leave", "AUROC of errors")
    return table(head, rows) + paragraph("ECE: expected calibration error, 0 at best.", "note")


def _audits(dynamic: DynamicResults) -> str:
    rates = [
        (f"{observable_title(one.observable).replace('$p_T$', 'pT')}, {class_title(one.sample)}",
         f"{one.association:.3f}", f"{one.p_value:.2g}")
        for one in dynamic.exit_rates
    ]  # fmt: skip
    if not rates and dynamic.mass is None:
        return paragraph("The data configuration has no observers, so the exits were not audited.", "missing")
    association = table(("observable", "Cramér's V", "p-value"), rates) if rates else ""
    drawn = grid(chart.html() for chart in charts.exit_rates(dynamic.exit_rates))
    return association + drawn + ("" if dynamic.mass is None else _mass(dynamic.mass))


def _mass(audit: MassAudit) -> str:
    shapes = (("full model", audit.full_model), ("policy", audit.mixture))
    rows = [
        (name, f"{shape.jets:,}", number(shape.divergence, ".3f"), number(shape.floor_95, ".3f"),
         number(shape.p_value, ".2g"))
        for name, shape in shapes
    ]  # fmt: skip
    few = [name for name, shape in shapes if shape.jets < charts.FEWEST_JETS]
    note = f"Not drawn, for fewer than {charts.FEWEST_JETS} jets pass: {', '.join(few)}." if few else ""
    cut = f"Cut at {audit.signal_efficiency:.0%} {class_title(audit.signal)} efficiency."
    head = ("cut on", "jets that pass", "divergence", "of chance, 95 %", "p-value")
    return paragraph(f"{cut} {note}") + table(head, rows) + charts.mass_shapes(audit).html()


def _other_jets(content: Content) -> str:
    ood = content.ood
    if ood is None:
        return section(
            "ood", "Jets of another kind", missing("Not tried.", f"{content.command('evaluate')} --ood FILES")
        )
    rows = [
        (exit_title(name), score.replace("_", " "), with_error(found.auroc, found.auroc_error))
        for name, scores in ood.exits.items()
        for score, found in scores.items()
    ]
    return section("ood", "Jets of another kind", table(("exit", "score", "AUROC"), rows))


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
        (title, ", ".join(map(str, point.exit_stages)) or "none", f"{100 * point.macs_share:.1f} %",
         in_percent(point.accuracy, point.accuracy_error))
        for title, point in (("recommended", found.recommended), ("full model", found.full_model))
    ]  # fmt: skip
    return table(("placement", "exits after stages", "MACs of full", "accuracy"), rows)


def _times(latency: LatencyReport) -> str:
    rows = [
        (exit_title(entry.name), f"{entry.batch_size:,}", f"{entry.jets_per_second:,.0f}", f"{entry.p50_ms:.3g}",
         f"{entry.p99_ms:.3g}", f"{entry.mean_macs / 1e6:,.1f}")
        for entry in (*latency.entries, *latency.chosen)
    ]  # fmt: skip
    where = f"{latency.device}, {quantity(latency.threads, 'thread')}, {latency.dtype}"
    jets = f"on average {latency.mean_multiplicity:.1f} particles a jet"
    head = ("all jets leave at", "batch", "jets/s", "median (ms a jet)", "99 % (ms a jet)", "MACs (M)")
    return paragraph(f"Measured on {where}; {jets}.") + table(head, rows)


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
        return _no_evaluation(content)
    head = ("results", *(kind.replace("_hash", "") for kind in kinds))
    return table(head, rows) + paragraph("The first 16 digits of each SHA-256.", "note")


def _no_policy(content: Content) -> str:
    command = content.command("calibrate" if content.promise is None else "evaluate")
    return missing("No judged exit policy of this model.", command)


def _no_evaluation(content: Content) -> str:
    return missing("No results of this model.", f"{content.command('chain')} -o evaluate_benchmark")


def _no_background(content: Content) -> str:
    return missing("None: c.background names no class that has jets. Set it.", content.command("evaluate"))
