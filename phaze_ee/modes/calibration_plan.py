"""``calibrate --plan``: how many calibration jets a promise takes, before any of them is used."""

from phaze_ee.errors import NothingPassedError
from phaze_ee.evaluation.answers import predict
from phaze_ee.exits.calibrate import Settings, relative_answers
from phaze_ee.exits.plan import plan
from phaze_ee.exits.shortfall import nothing_saves
from phaze_ee.machine import Precision
from phaze_ee.modes.console import counted, say, say_in_columns, show
from phaze_ee.modes.jets import choosing_jets, validation_files, with_observables
from phaze_ee.modes.session import Session
from phaze_ee.tables.policy import plan_table

# A plan is good if a policy passes in this share of the simulations.
_LIKELY = 0.9


def show_plan(session: Session, settings: Settings, precision: Precision) -> None:
    """Simulate the calibration from a pilot, the validation jets that calibrate does not use, and print the result.

    Raises:
        NothingPassedError: no number of jets would do.
        UsageError: there is no pilot, or the target promises nothing.
    """
    model, target = session.model, session.options.exit_target
    validation_files(session)  # refuses jets that the model has learned
    pilot = choosing_jets(session, with_observables(model.schema, session.options.promise_bins))
    answers = predict(model.tagger, counted(pilot), model.schema.class_names, session.device, precision)
    say(f"Model:  {session.project}, {model.title}")
    say(f"Pilot:  {len(answers):,} validation jets that calibrate does not use")
    sizes = plan(answers, settings)
    if not sizes:
        why = nothing_saves(relative_answers(answers, settings.class_prior))
        raise NothingPassedError(f"no number of jets would keep the target {target}: {why}")
    title = f"{session.project}: {target}, ε = {session.options.epsilon:g}, simulated"
    show(plan_table(title, sizes, divided=settings.conditions.divide))
    enough = next((size for size in sizes if size.promised >= _LIKELY), None)
    if enough is None:
        raise NothingPassedError(
            f"not even {sizes[-1].jets:,} calibration jets would probably keep the target {target}: "
            "allow a larger risk or fewer parts, or give a larger pilot: more validation jets"
        )
    say_in_columns(
        f"Plan: about {enough.jets:,} calibration jets; a policy passes in {100 * enough.promised:.0f} % of the "
        f"simulations, at {100 * enough.cost:.1f} % of the cost on average. More jets save more. Nothing was written."
    )
