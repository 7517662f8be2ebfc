"""Mode predict: write the answers of the trained network, with its exits, for any files of jets."""

import dataclasses
import hashlib
import re
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path

import torch

from phaze_ee.atomic import remove_abandoned
from phaze_ee.data.files import expand_patterns
from phaze_ee.data.loaders import EVALUATION_ROWS, evaluation_loader
from phaze_ee.data.schema import DataSchema
from phaze_ee.engine.audit import Audit
from phaze_ee.engine.engine import Engine
from phaze_ee.engine.event_budget import EventBudget
from phaze_ee.errors import UsageError
from phaze_ee.exits.drift import DriftReference
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.policy_file import ExitPolicyFile, steps_hash
from phaze_ee.exits.targets import Agreement
from phaze_ee.locks import held
from phaze_ee.models.precision import checked_precision
from phaze_ee.modes.console import say, say_in_columns, say_new, say_written, short, show, show_notes
from phaze_ee.modes.jets import testing_schema
from phaze_ee.modes.policies import asked_policy
from phaze_ee.modes.predicted_files import (
    Predicted,
    collected,
    predicted_one_by_one,
    progress_of,
    refuse_unusable,
)
from phaze_ee.modes.request import Request
from phaze_ee.modes.session import Session
from phaze_ee.prediction.columns import check_classes, check_observers, renamed_classes
from phaze_ee.prediction.drift_report import earlier_report, reference_hash
from phaze_ee.prediction.events import Events
from phaze_ee.prediction.job import PredictionTask, predict_file
from phaze_ee.prediction.outputs import FileJob, finished, plan
from phaze_ee.prediction.parallel import predict_files, require_dask
from phaze_ee.prediction.writers import AuditRecipe, Manifest, Recipe
from phaze_ee.tables.prediction import drift_lines, prediction_notes, prediction_table

_AMOUNT = re.compile(r"(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*(k|M|G|ms)")
_FACTORS = {"k": 1e3, "M": 1e6, "G": 1e9}
_TIMED_JETS = 256
_ROUNDS = 3
# No confidence reaches this threshold. Infinity would say that the exit is not offered at all.
_NEVER = 2.0


def run(session: Session) -> None:
    """Write predictions for ``--files``, or else for the files that evaluate reads; one output for each file.

    Raises:
        UsageError: a flag is wrong, no file matches, the policy is of another model, or an output exists that was made
            otherwise.
        CheckpointError: there is no trained model.
        DataError: a file cannot be used.
        RunError: an output cannot be written.
    """
    request, model = session.request, session.model
    say_new(f"Model:  {session.project}, {model.title}")
    files, notes = _files(session)
    forced = _forced(request)
    policy = _policy(session)
    notes += [] if policy is None else _temperature_notes(policy)
    task = _task(session, policy)
    if forced:
        notes.append("the promise of the policy does not cover jets that leave because of --max-exit or --event-budget")
    if request.event_budget is not None:
        task = dataclasses.replace(task, event_budget=event_budget(request.event_budget, task, files[0]))
    folder = request.output or session.project.predictions
    if task.reference is not None:  # what cannot be added to is refused before the work
        earlier_report(folder / "drift.json", task.reference, replace=request.overwrite)
    remove_abandoned(folder)
    jobs = plan(files, folder, request.format)
    steps = () if policy is None else policy.steps[: policy.step]
    done = [] if request.overwrite else [(job, finished(job, task.recipe, steps)) for job in jobs]
    earlier = {job: manifest for job, manifest in done if manifest is not None}
    started = time.perf_counter()
    todo = [job for job in jobs if job not in earlier]
    made, bad = collected(_predicted(task, todo, request), len(todo), folder)
    if made or earlier:
        show(prediction_table(list(earlier.values()), made, time.perf_counter() - started))
        notes += renamed_classes(model.schema.class_names)
        before_move = sum(manifest.recipe.policy != task.recipe.policy for manifest in earlier.values())
        show_notes([*model.notes, *notes, *prediction_notes(jobs, list(earlier.values()), made, before_move)])
        say_written(folder)
    if task.reference is not None:
        _monitor(task.reference, [*earlier.values(), *made], jobs, request, folder / "drift.json")
    refuse_unusable(bad, len(jobs))


def _forced(request: Request) -> bool:
    """Return whether jets leave for another reason than the policy.

    Raises:
        UsageError: they do, and the jets shall be monitored.
    """
    forced = request.max_exit is not None or request.event_budget is not None
    if forced and request.monitor is not None:
        raise UsageError(
            "--monitor compares the exits that the policy alone chooses; run it without --max-exit and --event-budget"
        )
    return forced


def _policy(session: Session) -> ExitPolicyFile | None:
    kept = asked_policy(session)
    if kept is None:
        return None
    kept.file.check_model(session.model.hash, kept.path)
    kept.file.check_precision(session.options.precision, kept.path)
    say(f"Policy: {kept.name}")
    say_new(f"Promise: {kept.file.guarantee.statement}")
    return kept.file


def _temperature_notes(policy: ExitPolicyFile) -> list[str]:
    """Return a note where all scores are those of the full model, but for a temperature, which nobody would expect."""
    if policy.temperatures is None or policy.lets_jets_leave or policy.temperatures[-1] == 1:
        return []
    return [
        f"no jet leaves early: the scores are those of the full model, its logits divided by a temperature of "
        f"{policy.temperatures[-1]:.4g}; --no-policy gives them as they are"
    ]


def _task(session: Session, policy: ExitPolicyFile | None) -> PredictionTask:
    request, model = session.request, session.model
    precision = checked_precision(session.options.precision, session.device)
    audit = requested_audit(request, policy)
    if request.monitor is not None:
        _check_monitoring(request.monitor, session, policy)
    events = requested_events(request)
    own = testing_schema(session, model.schema)
    if request.tree is not None:
        own = own.with_options({"treename": request.tree})
    schema = _with_observers(own, request.observers, None if events is None else events.column)
    reference = policy.reference if policy is not None and request.monitor is not None else None
    chosen = _chosen(policy, len(model.tagger.exit_stages), request)
    safer = None if policy is None or audit is None else _safer(policy)
    recipe = Recipe(
        model=model.hash,
        policy=_recipe_of(policy, request.max_exit),
        data=hashlib.sha256(schema.text.encode()).hexdigest(),
        exit_scores=request.exit_scores,
        monitored=None if reference is None else reference_hash(reference),
        event_budget=None if events is None else f"{request.event_budget} for {events.column or events.size}",
        audit=None if audit is None else AuditRecipe(rate=audit.rate, near=audit.near, seed=request.seed or 0),
        precision=precision,
        cascade=chosen is not None and chosen.cascade is not None,
        steps=None if policy is None or safer is None else steps_hash(policy.steps),
    )
    return PredictionTask(
        tagger=model.tagger,
        policy=chosen,
        events=events,
        schema=schema,
        recipe=recipe,
        reference=reference,
        audit=audit,
        audit_seed=request.seed or 0,
        safer=safer,
        rows=EVALUATION_ROWS,
        threads=max(1, torch.get_num_threads() // (request.workers or 1)),
        device=str(session.device),
        precision=precision,
    )


def _with_observers(schema: DataSchema, chosen: Sequence[str] | None, event_column: str | None) -> DataSchema:
    """Return the schema with the observers that are written.

    Raises:
        UsageError: an observer has the name of another column.
    """
    names = list(schema.weaver.z_variables if chosen is None else chosen)
    names += [event_column] if event_column is not None and event_column not in names else []
    # A label is written as such, and a file need not have it.
    written = [name for name in names if name == event_column or name not in {*schema.labels} & {*schema.class_names}]
    check_classes(schema.class_names, tuple(schema.targets))
    check_observers(written, schema.class_names, tuple(schema.targets))
    return schema if written == list(schema.weaver.z_variables) else schema.with_observers(written)


def _chosen(policy: ExitPolicyFile | None, exits: int, request: Request) -> ThresholdPolicy | None:
    if request.max_exit is None and request.event_budget is None:
        return None if policy is None else policy.policy()
    # Without a policy no jet leaves by itself: the budget or the cap alone decides.
    chosen = ThresholdPolicy("confidence", [_NEVER] * exits) if policy is None else policy.policy()
    return chosen if request.max_exit is None else chosen.capped(request.max_exit)


def _safer(policy: ExitPolicyFile) -> dict[int, ThresholdPolicy] | None:
    """Return the safer policies by their steps; None if there are none, or audits do not tell what they would lose."""
    if not policy.safer or not isinstance(policy.target, Agreement):
        return None
    return {step: policy.policy_at(step) for step in range(policy.step + 1, len(policy.steps))}


def _recipe_of(policy: ExitPolicyFile | None, max_exit: int | None) -> str | None:
    if policy is None and max_exit is None:
        return None
    digest = "no policy" if policy is None else policy.decisions_hash
    return digest if max_exit is None else f"{digest}, exit {max_exit} at most"


def _check_monitoring(significance: float, session: Session, policy: ExitPolicyFile | None) -> None:
    if not 0 < significance < 1:
        raise UsageError(f"--monitor {significance:g} is not a significance: give a number between 0 and 1")
    if policy is None:
        raise UsageError(
            f"--monitor compares with the calibration jets, but there is no {session.project.exit_policy}: run mode "
            "'calibrate'"
        )
    if policy.moved_from is not None and policy.step:
        raise UsageError(
            f"--monitor compares with the calibration jets of policy {policy.moved_from.name}, from which this one has "
            "moved to safer thresholds; watch it with --audit and mode 'monitor'"
        )


def _files(session: Session) -> tuple[list[Path], list[str]]:
    if session.request.files:
        return expand_patterns("--files", session.request.files, session.project.root), []
    if session.options.test_files:
        return session.files("test_files"), []
    own = bool(session.options.val_files)
    kind = "validation files" if own else "training files, most of whose jets the model has learned"
    return session.files("val_files"), [f"c.test_files is empty and there is no --files, so these are the {kind}"]


def _predicted(task: PredictionTask, jobs: Sequence[FileJob], request: Request) -> Iterator[Predicted]:
    """Predict the files, show the progress, and yield what became of each."""
    tree = task.schema.weaver.treename
    if request.scheduler is None and (request.workers or 1) == 1:
        yield from predicted_one_by_one(jobs, tree, partial(predict_file, task))
        return
    require_dask()
    if not jobs:
        return
    with progress_of(jobs, tree) as advance:
        for found in predict_files(task, jobs, workers=request.workers or 1, scheduler=request.scheduler):
            if isinstance(found, Manifest):
                advance(found.rows)
            yield found


def _monitor(
    reference: DriftReference, made: Sequence[Manifest], jobs: Sequence[FileJob], request: Request, path: Path
) -> None:
    """Add the files to ``drift.json``, if all of them were predicted, and say what all files so far show."""
    assert request.monitor is not None
    by_input = {manifest.input: manifest for manifest in made}
    if len(by_input) < len(jobs):  # a block of sorted files that lacks one would differ for that reason
        say_in_columns(
            f"Note: {short(path)} is as before: the files of a command are added together, when all are done"
        )
        return
    manifests = [by_input[job.input_file] for job in jobs]
    with held(path.with_name(".drift.lock"), "predict --monitor", say):
        # Read only now: other commands have added their files while this one predicted.
        before, replaced = earlier_report(path, reference, replace=request.overwrite)
        report = before.having(reference, manifests, request.monitor)
        report.write(path)
    for line in drift_lines(report, len(report.files) - len(before.files)):
        say_in_columns(line)
    if replaced:
        say(f"Note: {path} of an earlier run was replaced")
    say_written(path)


def requested_events(request: Request) -> Events | None:
    """Return which jets form an event; None without ``--event-budget``.

    Raises:
        UsageError: the flags do not go together.
    """
    given = [request.event_size is not None, request.event_column is not None]
    if request.event_budget is None:
        if any(given):
            raise UsageError("--event-size and --event-column need an --event-budget; give one")
        return None
    if sum(given) != 1:
        raise UsageError("--event-budget needs either --event-size N or --event-column NAME")
    if request.event_size is not None and request.event_size < 1:
        raise UsageError(f"--event-size {request.event_size} is not a number of jets; give 1 or more")
    return Events(request.event_size, request.event_column)


def requested_audit(request: Request, policy: ExitPolicyFile | None) -> Audit | None:
    """Return which jets are audited; None without ``--audit``.

    Raises:
        UsageError: a number makes no sense, the flags do not go together, or there is no policy to audit.
    """
    if request.audit is None:
        if request.audit_near is not None or request.seed is not None:
            raise UsageError("--audit-near and --seed need an --audit RATE; give one")
        return None
    if request.event_budget is not None or request.max_exit is not None:
        raise UsageError("--audit measures the policy alone; run it without --max-exit and --event-budget")
    if (request.seed or 0) < 0:
        raise UsageError(f"--seed {request.seed} is negative; give 0 or more")
    if policy is None:
        raise UsageError("--audit needs an exit policy, and there is none; run mode 'calibrate'")
    return Audit(request.audit, request.audit_near or 0.0)


def event_budget(amount: str, task: PredictionTask, file: Path) -> EventBudget:
    """Return the budget in multiply-accumulates (MACs).

    Milliseconds are converted by timing the full model on the device, and with the threads and precision, of the task.

    Raises:
        UsageError: the amount cannot be read, or is not positive.
    """
    match = _AMOUNT.fullmatch(amount.strip())
    if match is None:
        raise UsageError(f"--event-budget {amount!r} is neither MACs (500k, 200M, 1.5G) nor milliseconds (5ms)")
    number, unit = float(match[1]), match[2]
    if unit != "ms":
        return EventBudget(number * _FACTORS[unit])
    rate = _macs_per_ms(task, file)
    say_in_columns(
        f"Budget: {amount} = {number * rate / 1e6:.3g} M MACs (the full model does {rate / 1e6:.3g} M MACs per ms)"
    )
    return EventBudget(number * rate)


def _macs_per_ms(task: PredictionTask, file: Path) -> float:
    jets = next(iter(evaluation_loader(task.schema, [file], batch_size=_TIMED_JETS, labelled=False))).inputs.ragged()
    engine = Engine(deepcopy(task.tagger).to(task.device), threads=task.threads, precision=task.precision)
    jets = jets.to(task.device)
    macs = float(engine(jets).macs_N.sum())  # the first call warms up
    start = time.perf_counter()
    for _ in range(_ROUNDS):
        engine(jets).cpu()
    return macs * _ROUNDS / (1e3 * (time.perf_counter() - start))
