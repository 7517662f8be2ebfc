"""Mode calibrate: choose exit thresholds so that a promise is kept with a stated confidence."""

from collections.abc import Sequence

from phaze_ee.config.options import Options
from phaze_ee.data.schema import choose_background
from phaze_ee.errors import UsageError
from phaze_ee.evaluation.answers import predict
from phaze_ee.exits.calibrate import Settings, calibrate
from phaze_ee.exits.promise import policy_file
from phaze_ee.exits.targets import AccuracyDrop, Agreement, Budget, SignalEfficiency, Target
from phaze_ee.modes.calibration_jets import calibration_batches, origin
from phaze_ee.modes.console import counted, say, show, show_notes
from phaze_ee.modes.session import Session
from phaze_ee.names import class_title
from phaze_ee.results.base import Provenance
from phaze_ee.tables.policy import calibrated_policy_table, calibrated_risk_table

# Options that only one target uses.
_TARGET_OPTIONS = {
    "cost_budget": "budget",
    "signal": "signal_efficiency",
    "signal_efficiency": "signal_efficiency",
    "exit_form": "signal_efficiency",
}


def run(session: Session) -> None:
    """Fit an exit policy to the project's target and write exit_policy.json."""
    _refuse_strays(session)
    model = session.model
    if not model.tagger.exit_stages:
        raise UsageError(f"project {session.project} has a network without exits; there is nothing to calibrate")
    target = _target(session.options, model.schema.class_names)
    files, batches, notes = calibration_batches(session)
    say(f"Model:  {model.source}")
    answers = predict(model.tagger, counted(batches), model.schema.class_names, session.device)
    say(f"Jets:   {len(answers):,}, {origin(files, session)}")
    settings = _settings(session.options, target)
    result = calibrate(answers, settings)
    provenance = Provenance(str(session.project), model.source, model.hash, files, [*model.notes, *notes])
    file = policy_file(result, settings, provenance, held_out_of_validation=not session.options.calibration_files)
    file.write(session.project.exit_policy)
    if result.reason is not None:
        say(f"Nothing passed, so {file.guarantee.statement}", style="bold")
    elif file.guarantee.risks:
        show(calibrated_risk_table(file))
    show(calibrated_policy_table(file))
    show_notes([*([] if result.reason is not None else [file.guarantee.statement]), *file.notes])
    say(f"Written: {session.project.exit_policy}")


def _refuse_strays(session: Session) -> None:
    flags, chosen = session.request.flags, session.options.exit_target
    for name, target in _TARGET_OPTIONS.items():
        if name in flags and chosen != target:
            raise UsageError(
                f"{name} = {flags[name]!r} on the command line is for the target {target}, and the target is "
                f"{chosen}: add --target {target}"
            )


def _target(options: Options, class_names: Sequence[str]) -> Target:
    match options.exit_target:
        case "accuracy_drop":
            return AccuracyDrop(epsilon=options.epsilon)
        case "agreement":
            return Agreement(epsilon=options.epsilon)
        case "budget":
            return Budget(cost=options.cost_budget)
        case "signal_efficiency":
            signal, background = _signal_and_background(options, class_names)
            return SignalEfficiency(
                epsilon=options.epsilon,
                signal=signal,
                background=background,
                efficiency=options.signal_efficiency,
                background_growth=options.background_growth,
                form=options.exit_form,
            )


def _signal_and_background(options: Options, class_names: Sequence[str]) -> tuple[str, str]:
    background = choose_background(class_names, options.background)
    if background is None:
        raise UsageError("exit_target = 'signal_efficiency' needs c.background, the class that the cut rejects")
    choices = ", ".join(name for name in class_names if name != background)
    wanted = _label(options.signal, class_names)
    if wanted == background:
        raise UsageError(f"signal {wanted!r} is the background of the cut; choose from {choices}")
    if options.signal is None:
        raise UsageError(f"exit_target = 'signal_efficiency' needs c.signal (--signal): one of {choices}")
    if wanted not in class_names:
        raise UsageError(f"signal {options.signal!r} is not a class of the data configuration; choose from {choices}")
    return wanted, background


def _label(name: str | None, class_names: Sequence[str]) -> str:
    """Return the label of a class, which may be given by its title (Hbb for label_Hbb)."""
    return next((label for label in class_names if class_title(label) == name), name or "")


def _settings(options: Options, target: Target) -> Settings:
    return Settings(
        target,
        score=options.exit_score,
        delta=options.delta,
        method=options.risk_control,
        temperatures=options.fit_temperatures,
        seed=options.seed or 0,
        class_prior=options.class_prior,
    )
