"""Mode report: one HTML page on a project, or on several side by side."""

from collections.abc import Sequence
from pathlib import Path

from phaze_ee.atomic import replacing
from phaze_ee.errors import UsageError
from phaze_ee.modes.console import say, say_written
from phaze_ee.modes.current import CurrentResults, command, read_current
from phaze_ee.modes.plot import check_classes
from phaze_ee.modes.policies import PolicySummary, find_policy
from phaze_ee.modes.session import Session
from phaze_ee.report.content import Content, Promise
from phaze_ee.report.page import comparison_page, project_page
from phaze_ee.workspace import Project, existing_project

_CARD = "card.md"


def run(session: Session) -> None:
    """Write output/report.html of the project; with ``--projects`` a comparison, in the folder of mode compare."""
    project, request = session.request.existing_project, session.request
    if request.projects:
        if request.policy is not None:
            raise UsageError(
                "--policy is for the report of one project: a comparison shows active policies; leave it out"
            )
        names = list(dict.fromkeys([project.name, *request.projects]))
        compared = [read_current(existing_project(project.workspace, name)) for name in names]
        check_classes([current.static for current in compared])
        contents = [_content(current.project, current, current.left_out, None) for current in compared]
        _write(project.comparisons / "report.html", comparison_page(" and ".join(names), contents), contents)
        return
    current, problems = _results(project, request.policy)
    content = _content(project, current, problems, request.policy)
    _write(project.report, project_page(content), [content])


def _results(project: Project, policy: str | None) -> tuple[CurrentResults | None, Sequence[str]]:
    """Return the results of the current model, if there are any, and what is left out.

    Raises:
        UsageError: there is no policy with this name.
    """
    find_policy(project, policy)
    try:
        current = read_current(project, policy)
    except UsageError as error:
        return None, [str(error)]
    return current, current.left_out


def _content(project: Project, current: CurrentResults | None, left_out: Sequence[str], policy: str | None) -> Content:
    path = find_policy(project, policy)
    found = None if path is None else PolicySummary.read(path, made_by="calibrate")
    promise, stale = _promise(project, found, path)
    card, other = _card(project, found if promise else None)
    return Content(
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


def _promise(project: Project, found: PolicySummary | None, path: Path | None) -> tuple[Promise | None, list[str]]:
    """Return the promise of a policy, unless it is of another model, and what is left out."""
    if found is None or path is None:
        return None, []
    if found.model_hash != project.model_hash:
        why = f"{path.name} was calibrated for another model than {project.best_model.name}"
        return None, [f"Left out: the promise, for {why}; run {command('calibrate', project)}"]
    guarantee, target = found.guarantee, str(found.target.get("name", "")).replace("_", " ")
    jets = found.calibration
    return Promise(
        _sentence(guarantee.statement),
        guarantee.holds,
        target,
        testing=jets.testing,
        shaping=jets.shaping,
        tested=target != "budget",
    ), []


def _sentence(statement: str) -> str:
    return statement[:1].upper() + statement[1:]


def _card(project: Project, policy: PolicySummary | None) -> tuple[str | None, list[str]]:
    """Return the model card of the export, unless it is of another model, and what is left out."""
    path = project.export / _CARD
    if not path.is_file():
        return None, []
    text = path.read_text(encoding="utf-8", errors="replace")
    if project.model_hash is None or project.model_hash not in text:
        why = f"{path} is of another model than {project.best_model.name}"
        return None, [f"Left out: the model card, for {why}; run {command('export', project)}"]
    if policy is None or _is_of(text, policy):
        return text, []
    return text, [f"Note: the model card was exported with another policy, or none; run {command('export', project)}"]


def _is_of(card: str, policy: PolicySummary) -> bool:
    """Return whether a model card has the promise and the thresholds of a policy."""
    thresholds = (f"| {threshold:.6g} |" in card for threshold in policy.thresholds)
    return _sentence(policy.guarantee.statement) in card and all(thresholds)


def _write(path: Path, page: str, contents: Sequence[Content]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    for line in (line for content in contents for line in content.left_out):
        say(line)
    say_written(path)
