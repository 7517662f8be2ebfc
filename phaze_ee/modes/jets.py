"""Which jets of the project's files a mode reads: selections, parts of files, and jets that are held out."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from phaze_ee.data import selections
from phaze_ee.data.batches import HeldOut
from phaze_ee.data.cache.reader import Cache
from phaze_ee.data.schema import DataSchema
from phaze_ee.data.selections import JetChoice
from phaze_ee.data.table import PLACE
from phaze_ee.errors import UsageError
from phaze_ee.modes.session import FileOption, Session
from phaze_ee.modes.start import jet_choice, starting_schema
from phaze_ee.names import MULTIPLICITY
from phaze_ee.types import JetBatch


def training_schema(session: Session, schema: DataSchema) -> DataSchema:
    """Return the schema that reads training jets."""
    return selections.for_training(schema, jet_choice(session))


def testing_schema(session: Session, schema: DataSchema) -> DataSchema:
    """Return the schema that reads the jets of whole files in all modes but the training."""
    return selections.for_testing(schema, jet_choice(session))


def judging_schema(session: Session, schema: DataSchema, option: FileOption) -> DataSchema:
    """Return the same for the jets of an option, which may be the last rows of the training files."""
    own = testing_schema(session, schema)
    return own.with_part(jet_choice(session).validation_part) if option == "val_files" else own


def training_cache(session: Session) -> Cache | None:
    """Return the cache of the training jets, if there is one."""
    return session.cache(
        training_schema(session, starting_schema(session)), session.files("train_files"), training=True
    )


def resolved_schema(session: Session, cache: Cache | None) -> DataSchema:
    """Return the data configuration of a training, with standardisation and reweighting of the training files.

    Its selections are those of the YAML file: a model reads other jets in other modes.

    Raises:
        DataError: a file cannot be used.
    """
    if cache is not None:
        return selections.without_extra(cache.schema, session.schema)
    schema = starting_schema(session)
    return schema.resolve(session.files("train_files"), training_schema(session, schema))


def validation_schema(session: Session, schema: DataSchema) -> DataSchema:
    """Return the schema that reads the jets that choose the best epoch, with their places where these are needed."""
    return _placed(session, schema, selections.for_validation(schema, jet_choice(session)))


def calibration_schema(session: Session, schema: DataSchema) -> DataSchema:
    """Return the schema that reads the jets of calibrate, with their places where these are needed."""
    return _placed(session, schema, judging_schema(session, schema, calibration_option(session)))


def with_observables(schema: DataSchema, names: Iterable[str]) -> DataSchema:
    """Return the schema with these observables among the observers; the multiplicity is always known."""
    own = list(schema.weaver.z_variables)
    missing = [name for name in names if name != MULTIPLICITY and name not in own]
    return schema.with_observers([*own, *missing]) if missing else schema


def calibration_option(session: Session) -> FileOption:
    """Return the option that names the files of calibrate."""
    return "calibration_files" if session.options.calibration_files else "val_files"


def named(session: Session, option: FileOption) -> str:
    """Return the files of an option in words, and which of their rows are meant."""
    files = session.files(option)
    names = str(files[0]) if len(files) == 1 else f"{len(files)} files, {files[0].name} … {files[-1].name}"
    share = jet_choice(session).validation_share if option == "val_files" else 0
    return f"{names}, last {100 * share:.4g} % of rows" if share else names


def validation_files(session: Session) -> list[Path]:
    """Return the files of the validation jets, for a mode that judges the model of the project on them.

    Raises:
        UsageError: the model has learned some of these jets, since its training divided the files otherwise.
    """
    trained_with = session.model.options
    now = jet_choice(session).validation_share
    if now and trained_with is not None:
        before = JetChoice.of(trained_with).validation_share
        if before != now:
            how = f"c.validation_share = {before:g}" if before else "c.val_files set"
            raise UsageError(
                f"{session.project.config}: c.val_files is empty and c.validation_share = {now:g}, but the model was "
                f"trained with {how}, so it may have learned these jets; set this again, or train again"
            )
    return session.files("val_files")


def shares_validation_files(session: Session) -> bool:
    """Return whether calibrate uses a part of the validation jets."""
    return not session.options.calibration_files and session.options.calibration_share > 0


def validation_jets(session: Session, schema: DataSchema, batch_size: int | None = None) -> Iterable[JetBatch]:
    """Return all validation jets, those that are kept for mode calibrate among them.

    Args:
        session: the files.
        schema: resolved.
        batch_size: jets per batch; None: that of the configuration.

    Raises:
        DataError: a file cannot be used.
    """
    own = selections.for_validation(schema, jet_choice(session))
    return session.evaluation_jets(own, session.files("val_files"), batch_size=batch_size)


def choosing_jets(session: Session, schema: DataSchema) -> Iterable[JetBatch]:
    """Return the validation jets that choose the best epoch, without those that are kept for mode calibrate.

    The first are read here, so that what is wrong with them is said before an epoch of training.

    Raises:
        UsageError: none is left.
        DataError: a file cannot be used.
    """
    options, files = session.options, session.files("val_files")
    own = validation_schema(session, schema)
    jets = session.evaluation_jets(own, files)
    if shares_validation_files(session):
        jets = HeldOut(jets, options.calibration_share, held_out=False, number=_number(own))
    if (fraction := validation_fraction(session)) < 1:
        jets = HeldOut(jets, fraction, held_out=True)
    if next(iter(jets), None) is None:
        share = f"calibration_share = {options.calibration_share:g}"
        whole = (
            f"{share} leaves" if fraction == 1 else f"{share} and {fraction:g} of the jets (data_fraction_val) leave"
        )
        raise UsageError(
            f"{session.project.config}: {whole} no validation jets in {named(session, 'val_files')}; "
            f"{'lower it' if fraction == 1 else 'change them'}, add val_files, or set c.calibration_files"
        )
    return jets


def validation_fraction(session: Session) -> float:
    """Return the fraction of the validation jets that each epoch uses: always the same, spread over all files."""
    options = session.options
    own = options.data_fraction if options.data_fraction_val is None else options.data_fraction_val
    return own * options.file_fraction


def held_out_jets(
    session: Session, jets: Iterable[JetBatch], schema: DataSchema, trained_with: Mapping[str, Any] | None
) -> tuple[Iterable[JetBatch], list[str]]:
    """Return the validation jets that are kept for mode calibrate, and notes for a reader of the results.

    Args:
        session: the options.
        jets: those of :func:`calibration_schema`.
        schema: the data configuration of the model.
        trained_with: the options of its training; None: it was not trained here.
    """
    options, own = session.options.model_dump(), calibration_schema(session, schema)
    notes = []
    if trained_with is not None and _rule(schema, trained_with) != _rule(schema, options):
        notes.append(
            "the training used some of these jets to choose its best epoch (calibration_share or the selections were "
            "different), so the promise is slightly too optimistic; train again, or set c.calibration_files"
        )
    return HeldOut(jets, session.options.calibration_share, held_out=True, number=_number(own)), notes


def _placed(session: Session, schema: DataSchema, own: DataSchema) -> DataSchema:
    by_place = shares_validation_files(session) and _goes_by_place(schema, session.options.model_dump())
    return selections.with_places(own) if by_place else own


def _number(schema: DataSchema) -> str | None:
    return PLACE if PLACE in schema.weaver.z_variables else None


def _goes_by_place(schema: DataSchema, options: Mapping[str, Any]) -> bool:
    """Return whether the place in the file says which jets are held out, and not the position among those selected.

    So it is where training and calibrate select jets differently: then a jet has another position in each.
    """
    if "extra_selection" not in options:  # a training of an older version, whose validation used test_time_selection
        return False
    choice = JetChoice.of(options)
    ours, theirs = selections.for_validation(schema, choice), selections.for_testing(schema, choice)
    return bool(ours.weaver.test_time_selection != theirs.weaver.test_time_selection)


def _rule(schema: DataSchema, options: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what decides which validation jets are held out."""
    share = options.get("calibration_share", 0)
    if _goes_by_place(schema, options):
        return share, PLACE
    return share, selections.for_testing(schema, JetChoice.of(options)).weaver.test_time_selection


def overlap_with_training(session: Session, option: FileOption) -> list[str]:
    """Return a warning if files of an option are training files too; files that are not there are not compared."""
    if option == "val_files" and jet_choice(session).validation_share:
        return []  # other rows of the same files
    try:
        trained, others = session.files("train_files"), session.files(option)
    except UsageError:
        return []
    common = {path.resolve() for path in trained} & {path.resolve() for path in others}
    if not common:
        return []
    more = f" and {len(common) - 1} more" if len(common) > 1 else ""
    return [
        f"{min(common)}{more} in train_files and in {option}: figures from jets that the network has learned say "
        "nothing about other jets"
    ]
