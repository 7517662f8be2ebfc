"""Mode calibrate: choose exit thresholds so that a promise is kept with a stated confidence."""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import NoReturn

from phaze_ee.atomic import check_can_write
from phaze_ee.config.options import Options
from phaze_ee.errors import NothingPassedError, UsageError, shortened
from phaze_ee.evaluation.answers import predict
from phaze_ee.exits.calibrate import Calibration, Settings, calibrate, check
from phaze_ee.exits.conditions import Conditions
from phaze_ee.exits.policy_file import ExitPolicyFile
from phaze_ee.exits.promise import policy_file
from phaze_ee.exits.targets import AccuracyDrop, Agreement, Budget, NetAccuracyDrop, SignalEfficiency, Target
from phaze_ee.models.precision import checked_precision
from phaze_ee.modes.calibration_jets import calibration_batches, calibration_files, check_bins, origin
from phaze_ee.modes.calibration_plan import show_plan
from phaze_ee.modes.checkpoint_fit import current_schema
from phaze_ee.modes.console import counted, say, say_in_columns, say_new, say_written, show, show_details, show_notes
from phaze_ee.modes.policies import DEFAULT, activate, check_policy_name, keep_failed, keep_policy, read_policy
from phaze_ee.modes.repeated import note_calibration
from phaze_ee.modes.session import Session
from phaze_ee.modes.working_point import signal_and_background
from phaze_ee.tables.policy import calibrated_policy_table, calibrated_risk_table, tested_line, untested_lines
from phaze_ee.training.losses import is_for_a_point

_HOW_LIKELY = "--plan says how likely a promise then is"
# Options that only one target uses.
_TARGET_OPTIONS = {
    "cost_budget": "budget",
    "signal": "signal_efficiency",
    "signal_efficiency": "signal_efficiency",
    "exit_form": "signal_efficiency",
}


def refuse_early(session: Session) -> None:
    """Refuse what is known to be wrong before there is a model, so that a chain does not train it in vain.

    Raises:
        UsageError: an option is missing, wrong or of another target, the name of the policy is wrong, or other modes
            use the files too.
        DataError: the first file lacks what the bins of the promise need.
    """
    if session.request.activate is not None:
        return
    _refuse_request(session)
    if session.options.exit_count == 0 and not session.project.best_model.is_file():
        raise _without_exits(session)
    if (schema := current_schema(session)) is not None:  # else the training refuses
        check(_settings(session.options, _target(session.options, schema.class_names)))
        check_bins(session, schema)


def run(session: Session) -> None:
    """Fit a policy to the project's target, keep it under the name of ``--name``, and make it the active one.

    With ``--plan``, only say how many calibration jets this takes.

    Raises:
        NothingPassedError: nothing passed. A good policy of the same model stays active.
    """
    if session.request.activate is not None:
        if given := session.request.flags.keys() & {"exit_target", *_TARGET_OPTIONS}:
            raise UsageError(
                f"--activate takes a policy as it is, and {min(given)} is given too; leave one of them out"
            )
        activate(session.project, session.request.activate)
        say(f"Active: {session.project.policy(session.request.activate)}, copied to {session.project.exit_policy}")
        return
    precision = checked_precision(session.options.precision, session.device)
    _refuse_request(session)
    model, name = session.model, session.request.name or DEFAULT
    if not model.tagger.exit_stages:
        raise _without_exits(session)
    target = _target(session.options, model.schema.class_names)
    settings = _settings(session.options, target)
    check(settings)
    if session.request.plan:
        show_plan(session, settings, precision)
        return
    check_can_write(session.project.results)
    files, batches, notes = calibration_batches(session)
    say_new(f"Model:  {session.project}, {model.title}")
    answers = predict(model.tagger, counted(batches), model.schema.class_names, session.device, precision)
    say_in_columns(f"Jets:   {len(answers):,}, {origin(session)}")
    result = calibrate(answers, settings)
    provenance = session.provenance(files, [*model.notes, *notes])
    repeated = note_calibration(session.project, settings, provenance)
    provenance = replace(provenance, notes=[*provenance.notes, *repeated])
    file = policy_file(result, settings, provenance, held_out_of_validation=not session.options.calibration_files)
    if result.reason is None:
        keep_policy(session.project, name, file)
        _show(session, file, session.project.policy(name))
    else:
        _fail(session, name, file, result)


def _without_exits(session: Session) -> UsageError:
    return UsageError(f"project {session.project} has a network without exits; there is nothing to calibrate")


def _show(session: Session, file: ExitPolicyFile, path: Path) -> None:
    show(calibrated_policy_table(file))
    show_details([calibrated_risk_table(file)] if file.guarantee.risks else [], wanted=session.request.details)
    show_notes(file.notes)
    say_new(f"Promise: {file.guarantee.statement}")
    if file.guarantee.risks:
        say_in_columns(tested_line(file))
    for line in untested_lines(file):
        say_in_columns(line)
    say_written(path, " (active)")


def _fail(session: Session, name: str, file: ExitPolicyFile, result: Calibration) -> NoReturn:
    """Keep a failed calibration where it replaces no good policy, and end the command with the reason."""
    project = session.project
    active = read_policy(project, None)
    protected = active is not None and active.file.lets_jets_leave and active.file.model_hash == file.model_hash
    if protected:
        path = keep_failed(project, name, file)
        outcome = f"the active policy stays as it is, and this result is in {path}"
    else:
        keep_policy(project, name, file)
        outcome = f"the active policy is now the full model ({project.exit_policy})"
    show_notes(file.notes)
    if result.more_jets is not None:
        say_in_columns(_where_to_add(session, result.more_jets))
    message = f"no policy keeps the target {file.target.name}: {result.reason}; {outcome}"
    if shortened(message) != message:  # several tests fail, and their figures must not be lost
        say_in_columns(f"Reason: {result.reason}")
    raise NothingPassedError(message)


def _where_to_add(session: Session, jets: int) -> str:
    """Return in terms of the user's files where calibration jets are missing."""
    options = session.options
    if options.calibration_files:
        return f"Needed: at least about {jets:,} more jets like these in c.calibration_files; {_HOW_LIKELY}"
    held = ceil(jets / options.calibration_share)
    where = "in c.val_files" if options.val_files else "for validation, in c.val_files or by a larger validation_share"
    return (
        f"Needed: at least about {held:,} more jets {where}, of which calibration_share = "
        f"{options.calibration_share:g} is for calibration; or {jets:,} more jets than now in c.calibration_files; "
        f"{_HOW_LIKELY}"
    )


def _refuse_request(session: Session) -> None:
    flags, chosen = session.request.flags, session.options.exit_target
    for name, target in _TARGET_OPTIONS.items():
        if name in flags and chosen != target:
            raise UsageError(
                f"{name} = {flags[name]!r} on the command line is for the target {target}, and the target is "
                f"{chosen}: add --target {target}"
            )
    check_policy_name(session.request.name or DEFAULT)
    calibration_files(session)


def _target(options: Options, class_names: Sequence[str]) -> Target:
    match options.exit_target:
        case "accuracy_drop":
            return AccuracyDrop(epsilon=options.epsilon)
        case "net_accuracy_drop":
            return NetAccuracyDrop(epsilon=options.epsilon)
        case "agreement":
            return Agreement(epsilon=options.epsilon)
        case "budget":
            return Budget(cost=options.cost_budget)
        case "signal_efficiency":
            signal, background = signal_and_background(options, class_names, "exit_target = 'signal_efficiency'")
            return SignalEfficiency(
                epsilon=options.epsilon,
                signal=signal,
                background=background,
                efficiency=options.signal_efficiency,
                background_growth=options.background_growth,
                form=options.exit_form,
            )


def _settings(options: Options, target: Target) -> Settings:
    return Settings(
        target,
        score=options.exit_score,
        delta=options.delta,
        method=options.risk_control,
        temperatures=options.fit_temperatures and not is_for_a_point(options),
        seed=options.seed or 0,
        class_prior=options.class_prior,
        precision=options.precision,
        conditions=Conditions(
            per_class=options.promise_per_class, bins=options.promise_bins, leaving=options.promise_leaving
        ),
    )
