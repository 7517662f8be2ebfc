"""The jets of mode calibrate: which files, and which of their jets."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from phaze_ee.data.schema import DataSchema
from phaze_ee.data.table import check_branches
from phaze_ee.errors import UsageError
from phaze_ee.modes.jets import (
    calibration_option,
    calibration_schema,
    held_out_jets,
    named,
    validation_files,
    with_observables,
)
from phaze_ee.modes.session import Session
from phaze_ee.names import MULTIPLICITY
from phaze_ee.types import JetBatch


def calibration_batches(session: Session) -> tuple[list[Path], Iterable[JetBatch], list[str]]:
    """Return the calibration files, their calibration jets, and notes for a reader of the results.

    Raises:
        UsageError: there are no calibration jets, or a file is used for training or testing too.
    """
    options, model, files = session.options, session.model, calibration_files(session)
    if not options.calibration_files:
        validation_files(session)  # refuses jets that the model has learned
    labelled = options.exit_target != "agreement" or options.promise_per_class or options.class_prior is not None
    schema = with_observables(calibration_schema(session, model.schema), options.promise_bins)
    loader = session.evaluation_jets(schema, files, labelled=labelled)
    if options.calibration_files:
        return files, loader, []
    return files, *held_out_jets(session, loader, model.schema, model.options)


def calibration_files(session: Session) -> list[Path]:
    """Return the files of the calibration jets. No file is read.

    Raises:
        UsageError: there are no calibration jets, or a file is used for training or testing too.
    """
    options = session.options
    if not options.calibration_files and options.calibration_share == 0:
        raise UsageError("there are no calibration jets: set c.calibration_files, or calibration_share above 0")
    files = session.files(calibration_option(session))
    if options.val_files or options.calibration_files:  # else other rows of the same files
        _refuse_overlap(files, "train_files", session.files("train_files"))
    _refuse_overlap(files, "test_files", session.files("test_files") if options.test_files else [])
    return files


def check_bins(session: Session, schema: DataSchema) -> None:
    """Check that the first calibration file has the observables in whose bins a promise is wanted. No jet is read.

    Raises:
        DataError: it lacks a branch.
    """
    names = [name for name in session.options.promise_bins if name != MULTIPLICITY]
    if names:
        check_branches(with_observables(schema, names).weaver, calibration_files(session)[0], names)


def _refuse_overlap(files: Sequence[Path], other: str, theirs: Sequence[Path]) -> None:
    common = {path.resolve() for path in files} & {path.resolve() for path in theirs}
    if common:
        raise UsageError(
            f"{min(common)} is both a calibration file and one of {other}; calibration needs files that nothing else "
            "uses, whatever the selections: set c.calibration_files to others; docs/DATA.md divides one file"
        )


def origin(session: Session) -> str:
    """Return in words which files the calibration jets are from."""
    where = named(session, calibration_option(session))
    return where if session.options.calibration_files else f"held out of the validation jets: {where}"
