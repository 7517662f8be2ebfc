"""Mode monitor: whether a promise is kept on data, from audited predictions, with verdicts valid at all looks."""

from collections.abc import Sequence
from pathlib import Path

from phaze_ee.data.files import expand_patterns
from phaze_ee.errors import BrokenPromiseError, UsageError
from phaze_ee.exits.conditions import Conditions
from phaze_ee.exits.policy_file import KeptPolicy
from phaze_ee.exits.targets import AccuracyDrop, Agreement, AnyTarget, Budget, SignalEfficiency
from phaze_ee.locks import held
from phaze_ee.modes.console import say, say_in_columns, say_written, show
from phaze_ee.modes.moved_policy import LOG, check_can_move, log_moves, moved_name, write_moved
from phaze_ee.modes.policies import read_policy
from phaze_ee.modes.request import Request
from phaze_ee.modes.session import Session
from phaze_ee.names import quantity
from phaze_ee.plots.monitor import monitor_figure
from phaze_ee.plots.style import save
from phaze_ee.prediction.audited import Selection, read_audited
from phaze_ee.prediction.looks import watched
from phaze_ee.prediction.watched import MonitorResults, Verdict
from phaze_ee.tables.monitor import monitor_sentences, monitor_table, monitor_table_by


def run(session: Session) -> None:
    """Add files of predictions to ``monitor.json``, and say what all files so far show.

    With ``--adapt``, also write the policy that has moved as far as they ask for; without files, that before any move.

    Raises:
        UsageError: there is no policy whose promise can be watched; a file is not of an audited prediction with the
            same model, policy and rate; the flags do not go together; or the state is damaged or of another policy.
        BrokenPromiseError: the promise is broken.
        RunError: the state cannot be written.
    """
    request, project = session.request, session.project
    kept = _kept(session)
    say_in_columns(f"Policy: {kept.name}: {kept.file.guarantee.statement}")
    if not request.files:
        write_moved(project, kept, kept.file.step)
        say_in_columns(
            f"Next:   predict with --policy {moved_name(kept)} --audit RATE, then monitor --adapt with --files"
        )
        return
    files = expand_patterns("--files", request.files, project.root)
    path = (request.output or project.results) / "monitor.json"
    # Of two at once, the last would undo what the first saw.
    with held(path.with_name(".monitor.lock"), "monitor", say):
        verdict = _watch(session, kept, files, path)
    if verdict == "broken":
        raise BrokenPromiseError(
            f"the promise of policy {kept.name} is broken on these jets; calibrate again with jets like them, or "
            "predict with another --policy"
        )


def _watch(session: Session, kept: KeptPolicy, files: Sequence[Path], path: Path) -> Verdict:
    """Add files to the state, say and draw what it shows, and return the verdict."""
    before = _state(path, kept, files[0], session.request)
    results = before
    for file in files:
        results = results.having(file, kept.file.classes)
    show(monitor_table(results) if results.by is None else monitor_table_by(results))
    say(f"New:     {len(results.files) - len(before.files)} of {quantity(len(files), 'file')}")
    for sentence in monitor_sentences(results):
        say_in_columns(sentence)
    if (unwatched := _unwatched(kept, results.by)).divide:
        remedy = f"; --by {next(iter(unwatched.bins))} watches its bins" if unwatched.bins else ""
        say_in_columns(f"Note:    the promise in {unwatched} is not watched here{remedy}")
    if results.steps is not None:  # before the state, so that no move that it has is lost
        write_moved(session.project, kept, results.step)
        log_moves(path.with_name(LOG), kept, results.moves[len(before.moves) :])
    results.write(path)
    say_written(path)
    for figure in save(monitor_figure(watched(results)), path.with_suffix("")):
        say_written(figure)
    return results.verdict


def _kept(session: Session) -> KeptPolicy:
    """Return the policy to watch."""
    request, project = session.request, session.project
    if not request.files and not request.adapt:
        raise UsageError("monitor needs --files: the files that mode predict wrote with --audit RATE")
    kept = read_policy(project, request.policy)
    if kept is None:
        raise UsageError(f"there is no policy to watch ({project.exit_policy}); run mode 'calibrate'")
    kept.file.check_model(project.model_hash, kept.path)
    target = kept.file.target
    if not isinstance(target, AccuracyDrop | Agreement | SignalEfficiency) or not kept.file.guarantee.holds:
        raise UsageError(
            f"policy {kept.name} (target {target.name}) promises nothing that can be watched without labels; watch one "
            "of target agreement, accuracy_drop or signal_efficiency"
        )
    if request.adapt:
        if request.by is not None:
            raise UsageError("--adapt moves the policy of all jets together; run it without --by")
        check_can_move(kept)
    return kept


def _state(path: Path, kept: KeptPolicy, first: Path, request: Request) -> MonitorResults:
    """Return what was seen before; without a state, a new one for the rate of the first file."""
    if not path.exists():
        return _new_state(kept, first, request)
    try:
        state = MonitorResults.read(path, made_by="monitor")
    except UsageError as error:
        raise UsageError(
            f"{path} is damaged, and was kept; move it away, and give all files of predictions again"
        ) from error
    assert not isinstance(kept.file.target, Budget)
    policy = kept.file.decisions_hash if state.steps is None else kept.file.steps[0]
    promised = (kept.file.model_hash, policy, kept.file.target.epsilon, kept.file.guarantee.delta, _exits(kept))
    watched = (state.model, state.policy, state.epsilon, state.delta, state.exits)
    if watched != promised or state.edges != _edges(kept, state.by) or state.steps not in (None, kept.file.steps):
        raise UsageError(f"{path} watches another policy; choose another --output, or move it away")
    for flag, given, known, own in (
        (f"those of --by {request.by}", request.by not in (None, state.by), _watched(state), f"by_{request.by}"),
        ("with --adapt", request.adapt and state.steps is None, f"{_watched(state)} without --adapt", "adapt"),
    ):
        if given:
            folder = path.with_name(f"monitor_{own}")
            raise UsageError(f"{path} watches {known}, not {flag}; give a folder of its own: --output {folder}")
    return state


def _watched(state: MonitorResults) -> str:
    return "all jets together" if state.by is None else f"the values of {state.by}"


def _new_state(kept: KeptPolicy, first: Path, request: Request) -> MonitorResults:
    audit, target = read_audited(first).recipe.audit, kept.file.target
    assert audit is not None
    assert not isinstance(target, Budget)
    return MonitorResults(
        model=kept.file.model_hash,
        policy=kept.file.steps[0] if request.adapt else kept.file.decisions_hash,
        rate=audit.rate,
        epsilon=target.epsilon,
        delta=kept.file.guarantee.delta,
        exact=isinstance(target, Agreement),
        selection=_selection(target, kept.file.classes),
        exits=_exits(kept),
        by=request.by,
        edges=_edges(kept, request.by),
        steps=kept.file.steps if request.adapt else None,
    )


def _edges(kept: KeptPolicy, by: str | None) -> list[float] | None:
    """Return the edges of the bins of a column in which the promise holds as well; None: there are none."""
    edges = None if by is None else kept.file.guarantee.conditions.bins.get(by)
    return None if edges is None else list(edges)


def _unwatched(kept: KeptPolicy, by: str | None) -> Conditions:
    """Return the parts of the jets in which a promise is made that is not watched."""
    conditions = kept.file.guarantee.conditions
    others = {name: edges for name, edges in conditions.bins.items() if name != by}
    return conditions.model_copy(update={"bins": others})


def _exits(kept: KeptPolicy) -> int | None:
    """Return the number of exits, if the promise is about the jets that leave early alone."""
    return len(kept.file.thresholds) if kept.file.guarantee.conditions.leaving else None


def _selection(target: AnyTarget, classes: list[str]) -> Selection | None:
    if not isinstance(target, SignalEfficiency) or target.cut is None:
        return None
    return Selection(signal=classes.index(target.signal), background=classes.index(target.background), cut=target.cut)
