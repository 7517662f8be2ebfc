"""Mode report: one HTML page on a project, or on several side by side."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from phaze_ee.atomic import replacing
from phaze_ee.errors import UsageError
from phaze_ee.evaluation.over_seeds import JudgedSeed, summarise
from phaze_ee.modes.compare import differences_of
from phaze_ee.modes.console import say_in_columns, say_written
from phaze_ee.modes.current import CurrentResults, command
from phaze_ee.modes.plot import check_classes
from phaze_ee.modes.policies import PolicySummary, find_policy
from phaze_ee.modes.seeds_so_far import known_seeds, read_means, seed_runs
from phaze_ee.modes.session import Session
from phaze_ee.report.content import Content, OneSeed, Promise
from phaze_ee.report.page import comparison_page, project_page, seeds_page
from phaze_ee.sweep.trial_project import seed_project
from phaze_ee.workspace import Project, existing_project

_CARD = "card.md"


def run(session: Session) -> None:
    """Write output/report.html of the project; with ``--projects`` a comparison, in the folder of mode compare.

    The report of a project that was run with several seeds is about all of them.
    """
    project, request = session.request.existing_project, session.request
    if request.projects:
        if request.policy is not None:
            raise UsageError(
                "--policy is for the report of one project: a comparison shows active policies; leave it out"
            )
        names = list(dict.fromkeys([project.name, *request.projects]))
        compared = [read_means(existing_project(project.workspace, name)) for name in names]
        check_classes([current.static for current in compared])
        contents = [_content(current.project, current, current.left_out, None) for current in compared]
        differences = differences_of([current.static for current in compared])
        page = comparison_page(" and ".join(names), contents, differences)
        _write(project.comparisons / "report.html", page, contents)
        return
    current, problems = _results(project, request.policy)
    content = _content(project, current, problems, request.policy)
    page = project_page(content) if content.over_seeds is None else seeds_page(content)
    _write(project.report, page, [content])


def _results(project: Project, policy: str | None) -> tuple[CurrentResults | None, Sequence[str]]:
    """Return the results of the current model, or their means over seeds, if there are any, and what is left out.

    Raises:
        UsageError: there is no policy with this name.
    """
    for one in [seed_project(project, seed) for seed in known_seeds(project)] or [project]:
        find_policy(one, policy)
    try:
        current = read_means(project, policy)
    except UsageError as error:
        return None, [str(error)]
    return current, current.left_out


def _content(project: Project, current: CurrentResults | None, left_out: Sequence[str], policy: str | None) -> Content:
    seeds = known_seeds(project)
    promise, stale = (None, []) if seeds else _promise(project, policy)
    card, other = _card(project, policy, promise)
    content = Content(
        title=str(project),
        command=lambda mode: command(mode, project),
        results=None if current is None else current.static,
        promise=promise,
        ood=None if current is None else current.ood,
        placement=None if current is None else current.placement,
        history=None if current is None else current.history,
        card=card,
        configuration=project.config.read_text(encoding="utf-8", errors="replace"),
        left_out=[*left_out, *stale, *other],
    )
    return _with_seeds(content, project, seeds, policy) if seeds else content


def _with_seeds(content: Content, project: Project, seeds: Sequence[int], policy: str | None) -> Content:
    """Return the content with its seeds and their means."""
    runs = seed_runs(project, seeds)
    results = {} if content.results is None else {one.name: one for one in content.results.seeds}
    judged = [JudgedSeed(one.with_policy, one.benchmark.latency, one.dynamic) for one in results.values()]
    projects = [seed_project(project, run.seed) for run in runs]
    promises = [_promise(own, policy) for own in projects]
    return replace(
        content,
        over_seeds=summarise(project.name, runs, judged),
        seeds=[
            OneSeed(run, command("report", own), results.get(own.name), promise)
            for run, own, (promise, _) in zip(runs, projects, promises, strict=True)
        ],
        left_out=[*content.left_out, *(line for _, lines in promises for line in lines)],
    )


def _promise(project: Project, policy: str | None) -> tuple[Promise | None, list[str]]:
    """Return the promise of the policy, unless it is of another model, and what is left out."""
    path = find_policy(project, policy)
    if path is None:
        return None, []
    found = PolicySummary.read(path, made_by="calibrate")
    if found.model_hash != project.model_hash:
        why = f"{path.name} was calibrated for another model than {project.best_model.name}"
        return None, [f"Left out: the promise, for {why}; run {command('calibrate', project)}"]
    guarantee, target = found.guarantee, str(found.target.get("name", "")).replace("_", " ")
    jets = found.calibration
    return Promise(
        guarantee.statement[:1].upper() + guarantee.statement[1:],
        guarantee.holds,
        target,
        testing=jets.testing,
        shaping=jets.shaping,
        tested=target != "budget",
        confidence=1 - guarantee.delta if guarantee.method == "ltt" else None,
    ), []


def _card(project: Project, policy: str | None, promise: Promise | None) -> tuple[str | None, list[str]]:
    """Return the model card of the export, unless it is of another model, and what is left out."""
    path = project.export / _CARD
    if not path.is_file():
        return None, []
    text = path.read_text(encoding="utf-8", errors="replace")
    if project.model_hash is None or project.model_hash not in text:
        why = f"{path} is of another model than {project.best_model.name}"
        return None, [f"Left out: the model card, for {why}; run {command('export', project)}"]
    found = find_policy(project, policy)
    if promise is None or found is None or _is_of(text, promise, PolicySummary.read(found, made_by="calibrate")):
        return text, []
    return text, [f"Note: the model card was exported with another policy, or none; run {command('export', project)}"]


def _is_of(card: str, promise: Promise, policy: PolicySummary) -> bool:
    """Return whether a model card has the promise and the thresholds of a policy."""
    return promise.statement in card and all(f"| {threshold:.6g} |" in card for threshold in policy.thresholds)


def _write(path: Path, page: str, contents: Sequence[Content]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    for line in dict.fromkeys(line for content in contents for line in content.left_out):
        say_in_columns(line)
    say_written(path)
