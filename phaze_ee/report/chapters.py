"""The chapters of a project's report on model, deployment and dataset; and the comparison."""

from collections.abc import Iterator, Sequence

from phaze_ee.names import FULL_MODEL, POLICY, class_title, exit_title, quantity, shares_title
from phaze_ee.report import charts
from phaze_ee.report.absent import no_evaluation
from phaze_ee.report.content import Content
from phaze_ee.report.differences import differences
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
)
from phaze_ee.report.seeds import hashes_of_seeds
from phaze_ee.report.targets import targets
from phaze_ee.results.base import Traced
from phaze_ee.results.benchmark import LatencyReport
from phaze_ee.results.differences import ComparisonResults
from phaze_ee.results.project import ProjectResults
from phaze_ee.tables.regression import target_rows
from phaze_ee.tables.style import OWN_PARTICLES, UNKNOWN, in_percent, millions, number

_TERMS = (
    "MACs: multiply-accumulate operations, in millions. AUC: area under the ROC curve, mean over all pairs of classes."
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
        targets([] if results is None else target_rows(results.with_policy.exits)),
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
    """Return the test jets, the configuration, versions, and the hashes of all results."""
    results = content.results
    jets = no_evaluation(content) if results is None else _jets(results)
    files = [] if results is None else results.evaluation.files
    return chapter(
        "dataset",
        "Dataset",
        section("jets", "Test jets", jets, folded(quantity(len(files), "file"), "\n".join(files)) if files else ""),
        section("configuration", "Configuration", folded("The configuration of the project", content.configuration)),
        section("versions", "Versions", table(("program", "version"), versions)),
        section("hashes", "Hashes", hashes_of_seeds(content.seeds) if content.seeds else _hashes(content)),
    )


def comparison_chapter(projects: Sequence[ProjectResults], found: ComparisonResults | None) -> str:
    """Return full models and policies of projects side by side, with the differences of their accuracies."""
    own = all(_own_macs_known(project) for project in projects)
    rows = [
        (
            project.name,
            exit_title(name),
            in_percent(exit_.accuracy, _error(project, name, exit_.accuracy_error)),
            number(exit_.roc_auc, ".4f"),
            millions(_macs(project, name, own=own)),
            f"{project.cost(name, 'params'):,.0f}",
        )
        for project in projects
        for name, exit_ in project.with_policy.exits.items()
        if name in (FULL_MODEL, POLICY)
    ]
    head = ("project", "answer of", "accuracy", "AUC", "MACs (M)", "parameters")
    return chapter(
        "comparison",
        "Comparison",
        table(head, rows),
        paragraph(f"{_convention(projects, own=own)}. {_TERMS}", "note"),
        items(_seeded(projects)),
        *_differences(found),
        charts.comparison(projects).html(),
        _policies(projects),
    )


def _error(project: ProjectResults, name: str, of_jets: float) -> float:
    """Return the standard deviation of an accuracy over seeds; without seeds, its error for the number of jets."""
    spread = project.spread(name, "accuracy")
    return of_jets if spread is None else spread


def _seeded(projects: Sequence[ProjectResults]) -> list[str]:
    """Return which projects are means over seeds."""
    seeded = [
        f"{project.name}: mean of {quantity(len(project.seeds), 'seed')}; ±: standard deviation over them"
        for project in projects
        if len(project.seeds) > 1
    ]
    others = "of the other projects: " if seeded else ""
    return [*seeded, *([f"±, {others}error for the number of test jets"] if len(seeded) < len(projects) else [])]


def _differences(found: ComparisonResults | None) -> Iterator[str]:
    if found is None:
        return
    yield section("full-models", "Differences of the full models", differences(found.full_models, "project"))
    if found.policies is not None:
        yield section("policies", "Differences of the policies", differences(found.policies, "project"))


def _policies(projects: Sequence[ProjectResults]) -> str:
    judged = [project for project in projects if project.dynamic is not None]
    return charts.policies(judged).html() if judged else ""


def _exits_table(results: ProjectResults) -> str:
    own = _own_macs_known(results)
    rows = [
        (
            exit_title(name),
            in_percent(exit_.accuracy, exit_.accuracy_error),
            number(exit_.roc_auc, ".4f"),
            f"{exit_.loss:.4f}",
            millions(_macs(results, name, own=own)),
            f"{results.cost(name, 'params'):,.0f}",
        )
        for name, exit_ in results.with_policy.exits.items()
    ]
    head = ("answer of", "accuracy", "AUC", "cross-entropy", "MACs (M)", "parameters")
    note = f"{_convention([results], own=own)}. {_TERMS}"
    return paragraph(f"Weights: {results.evaluation.model}") + table(head, rows) + paragraph(note, "note")


def _own_macs_known(results: ProjectResults) -> bool:
    return all(exit_.mean_macs is not None for exit_ in results.with_policy.exits.values())


def _macs(results: ProjectResults, name: str, *, own: bool) -> float:
    """Return the mean MACs of the test jets with their own particles, or (not ``own``) those of a padded jet."""
    found = results.with_policy.exits[name].mean_macs if own else None
    return results.cost(name, "macs") if found is None else found


def _convention(projects: Sequence[ProjectResults], *, own: bool) -> str:
    """Return how the MACs of a table are counted."""
    if own:
        return f"{OWN_PARTICLES}; test jets, in the mix of classes of their files"
    particles = " or ".join(map(str, sorted({project.benchmark.particles for project in projects})))
    return f"MACs: one jet padded to {particles} particles; of the policy, the mean over its exits"


def _placement(content: Content) -> str:
    found = content.placement
    if found is None:
        return missing("Not searched.", content.command("place"))
    rows = [
        (title, ", ".join(map(str, point.exit_stages)) or "none", f"{percent(point.macs_share)}",
         in_percent(point.accuracy, point.accuracy_error))
        for title, point in (("recommended", found.recommended), ("full model", found.full_model))
    ]  # fmt: skip
    head = ("placement", "exits after stages", "MACs, of the full model's", "accuracy")
    return table(head, rows) + charts.placement(found).html()


def _times(latency: LatencyReport) -> str:
    rows = [
        (exit_title(entry.name), f"{entry.batch_size:,}", f"{entry.jets_per_second:,.0f}", f"{entry.p50_ms:.3g}",
         f"{entry.p99_ms:.3g}", millions(entry.mean_macs))
        for entry in sorted([*latency.entries, *latency.chosen], key=lambda entry: entry.batch_size)
    ]  # fmt: skip
    jets = f"on average {latency.mean_multiplicity:.1f} particles a jet"
    head = ("answers of", "jets per batch", "jets/s", "median (ms a jet)", "99 % quantile (ms a jet)", "MACs (M)")
    note = "Time a jet: that of a batch by its number of jets. MACs: those that were spent, in millions a jet."
    if latency.class_shares is not None:
        note += f" The jets are {shares_title(latency.class_shares)}."
    return paragraph(f"Measured on {latency.conditions}; {jets}.") + table(head, rows) + paragraph(note, "note")


def _jets(results: ProjectResults) -> str:
    evaluation = results.evaluation
    rows = [(class_title(name), f"{count:,}") for name, count in evaluation.jets_per_class.items()]
    return table(("class", "jets"), [*rows, ("all", f"{evaluation.jets:,}")]) + items(evaluation.notes)


def _hashes(content: Content) -> str:
    results = content.results
    files: dict[str, Traced | None] = {
        "evaluation": None if results is None else results.evaluation,
        "benchmark": None if results is None else results.benchmark,
        "policy, on test jets": None if results is None else results.dynamic,
        "out-of-distribution jets": content.ood,
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
    note = "The first 16 digits of the SHA-256 of what the results rest on. Results with equal hashes belong together."
    return table(head, rows) + paragraph(note, "note")
