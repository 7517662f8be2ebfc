"""Mode export: write the trained network, with its exits and their thresholds, as one ONNX file."""

from pathlib import Path

from phaze_ee.errors import UsageError
from phaze_ee.exits.policy_file import KeptPolicy
from phaze_ee.export import require_onnx
from phaze_ee.modes.console import say, say_in_columns, say_written, show_notes
from phaze_ee.modes.current import command
from phaze_ee.modes.jets import testing_schema
from phaze_ee.modes.policies import asked_policy
from phaze_ee.modes.session import Session
from phaze_ee.names import quantity
from phaze_ee.results.policy import DynamicResults


def refuse_early(session: Session) -> None:
    """Refuse what is known to be wrong before any training.

    Raises:
        UsageError: onnx is not installed, or no file can hold a tagger with this data configuration.
    """
    require_onnx()
    from phaze_ee.export.bundle import refuse_unwritable
    from phaze_ee.modes.checkpoint_fit import current_schema

    schema = current_schema(session)
    if schema is not None:
        refuse_unwritable(schema)


def run(session: Session) -> None:
    """Write the folder of the exported tagger, after the file has been compared with the tagger on the project's jets.

    Raises:
        UsageError: onnx is not installed, a flag is wrong, the policy is of another model, or the network, an exit or
            the policy cannot be written.
        CheckpointError: there is no trained model.
        DataError: the jets to check the file on cannot be used.
        RunError: the file does not answer as the tagger, or cannot be written.
    """
    require_onnx()
    from phaze_ee.export.bundle import CARD, MODEL, Export, write_bundle
    from phaze_ee.export.card import UNSTATED, Origin, jets_per_call

    request, model = session.request, session.model
    say(f"Model:  {model.source}")
    policy = _policy(session)
    promise, judged = None if policy is None else policy.file, _judged(session, policy)
    origin = Origin(
        f"{session.project}, {model.source.rpartition('/')[2]}",
        model.hash,
        testing_schema(session, model.schema).options,  # with the extra selections, as predict reads jets
        model.schema.class_names,
        promise,
        request.licence or UNSTATED,
        judged,
    )
    export = Export(
        model.tagger,
        None if promise is None else promise.policy(),
        model.schema,
        origin,
        session.evaluation_jets(model.schema, session.files(session.judged_files), labelled=False),
        one_jet=request.one_jet,
        opset=request.opset,
    )
    folder = request.output or session.project.export
    notes = _replaced(folder / CARD, jets_per_call(one_jet=not request.one_jet))
    checked = write_bundle(folder, export)
    size = (folder / MODEL).stat().st_size / 1e6
    say(f"File:   {size:.2f} MB, {jets_per_call(one_jet=request.one_jet)}")
    say(f"Check:  {checked.jets:,} jets, the same exits as the tagger, probabilities within {checked.difference:.1e}")
    if checked.by_rounding:
        notes.append(f"{quantity(checked.by_rounding, 'jet')} differed by more, in single precision only, see card.md")
    if policy is not None and judged is None:
        evaluate = command("evaluate", session.project)
        notes.append(f"card.md has no figures of test jets; to add them, export again after: {evaluate}")
    show_notes([*model.notes, *notes])
    say_written(folder)


def _replaced(card: Path, other: str) -> list[str]:
    """Return a note if the folder of a card holds a file of the other kind, which this export replaces."""
    if not card.is_file() or other not in card.read_text(encoding="utf-8", errors="replace"):
        return []
    return [f"it replaces a file for {other}; to keep both, export one with --output FOLDER"]


def _judged(session: Session, policy: KeptPolicy | None) -> DynamicResults | None:
    """Return what evaluate found for the policy that is exported; None: it has not run since the calibration."""
    path = session.project.dynamic_results
    if policy is None or not path.is_file():
        return None
    found = DynamicResults.read(path, made_by="evaluate")
    return found if (found.model_hash, found.policy_hash) == (session.model.hash, policy.hash) else None


def _policy(session: Session) -> KeptPolicy | None:
    kept = asked_policy(session)
    if kept is None:
        return None
    kept.file.check_model(session.model.hash, kept.path)
    if kept.file.precision != "float32":
        raise UsageError(
            f"{kept.path} was calibrated with precision = {kept.file.precision!r}, and an exported tagger runs in "
            "float32: run mode 'calibrate' again with precision 'float32'"
        )
    say_in_columns(f"Policy: {kept.name}: {kept.file.guarantee.statement}")
    return kept
