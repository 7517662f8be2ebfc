"""Mode monitor: whether a promise is kept on data, from audited predictions, with verdicts valid at all looks."""

from pathlib import Path

from phaze_ee.data.files import expand_patterns
from phaze_ee.errors import BrokenPromiseError, UsageError
from phaze_ee.exits.policy_file import KeptPolicy
from phaze_ee.exits.targets import AccuracyDrop, Agreement, AnyTarget, SignalEfficiency
from phaze_ee.modes.console import say, say_in_columns, say_written, show
from phaze_ee.modes.policies import read_policy
from phaze_ee.modes.session import Session
from phaze_ee.prediction.watched import MonitorResults, Selection, read_audited
from phaze_ee.tables.monitor import monitor_sentences, monitor_table, monitor_table_by


def run(session: Session) -> None:
    """Add files of predictions to ``monitor.json``, and say what all files so far show.

    Raises:
        UsageError: there is no policy whose promise can be watched; a file is not of an audited prediction with the
            same model, policy and rate; or the state is damaged or of another policy.
        BrokenPromiseError: the promise is broken.
        RunError: the state cannot be written.
    """
    request, project = session.request, session.project
    if not request.files:
        raise UsageError("monitor needs --files: the files that mode predict wrote with --audit RATE")
    kept = read_policy(project, request.policy)
    if kept is None:
        raise UsageError(f"there is no policy to watch ({project.exit_policy}); run mode 'calibrate'")
    kept.file.check_model(project.model_hash, kept.path)
    say_in_columns(f"Policy: {kept.name}: {kept.file.guarantee.statement}")
    files = expand_patterns("--files", request.files, project.root)
    path = (request.output or project.results) / "monitor.json"
    before = _state(path, kept, files[0], request.by)
    results = before
    for file in files:
        results = results.having(file, kept.file.classes)
    path.parent.mkdir(parents=True, exist_ok=True)
    results.write(path)
    show(monitor_table(results) if results.by is None else monitor_table_by(results))
    say(f"New:     {len(results.files) - len(before.files)} of {len(files)} files")
    for sentence in monitor_sentences(results):
        say_in_columns(sentence)
    say_written(path)
    if results.verdict == "broken":
        raise BrokenPromiseError(
            f"the promise of policy {kept.name} is broken on these jets; calibrate again with jets like them, or "
            "predict with another --policy"
        )


def _state(path: Path, kept: KeptPolicy, first: Path, by: str | None) -> MonitorResults:
    """Return what was seen before; without a state, a new one for the rate of the first file."""
    target = kept.file.target
    if not isinstance(target, AccuracyDrop | Agreement | SignalEfficiency) or not kept.file.guarantee.holds:
        raise UsageError(
            f"policy {kept.name} (target {target.name}) promises nothing that can be watched without labels; watch one "
            "of target agreement, accuracy_drop or signal_efficiency"
        )
    digest = kept.file.decisions_hash
    if not path.exists():
        audit = read_audited(first).recipe.audit
        assert audit is not None
        return MonitorResults(
            model=kept.file.model_hash,
            policy=digest,
            rate=audit.rate,
            epsilon=target.epsilon,
            delta=kept.file.guarantee.delta,
            exact=isinstance(target, Agreement),
            selection=_selection(target, kept.file.classes),
            by=by,
        )
    try:
        state = MonitorResults.read(path, made_by="monitor")
    except UsageError as error:
        raise UsageError(
            f"{path} is damaged, and was kept; move it away, and give all files of predictions again"
        ) from error
    promised = (kept.file.model_hash, digest, target.epsilon, kept.file.guarantee.delta)
    if (state.model, state.policy, state.epsilon, state.delta) != promised:
        raise UsageError(f"{path} watches another policy; choose another --output, or move it away")
    if by not in (None, state.by):
        known = "all jets together" if state.by is None else f"the values of {state.by}"
        raise UsageError(f"{path} watches {known}, not those of --by {by}; choose another --output, or move it away")
    return state


def _selection(target: AnyTarget, classes: list[str]) -> Selection | None:
    if not isinstance(target, SignalEfficiency) or target.cut is None:
        return None
    return Selection(signal=classes.index(target.signal), background=classes.index(target.background), cut=target.cut)
