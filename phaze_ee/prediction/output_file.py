"""Writes the predictions for one file of jets. What gives the answers, an engine or a bundle, is a ``FileRun``."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from phaze_ee.atomic import replacing
from phaze_ee.data.stamps import changed
from phaze_ee.errors import RunError
from phaze_ee.machine import return_free_memory
from phaze_ee.prediction.outputs import FileJob, check_not_taken
from phaze_ee.prediction.writers import Columns, InputFile, Manifest, open_writer

PartT = TypeVar("PartT")


class FileRun(Protocol[PartT]):
    """Reads the jets of a file in parts, answers them, and counts exits and costs."""

    def parts(self, advance: Callable[[int], None]) -> Iterable[PartT]:
        """Yield the jets of the file in order; call ``advance`` with the number of rows after each part."""

    def columns(self, part: PartT) -> Columns:
        """Return the columns to write for some jets."""

    def manifest(self, job: FileJob, checksums: dict[str, int]) -> Manifest:
        """Return the manifest of all jets so far, with the checksums of their columns."""


def write_predictions(run: FileRun[PartT], job: FileJob, advance: Callable[[int], None]) -> Manifest:
    """Write the predictions for a file of jets, in their order. The output appears only when it is complete.

    Args:
        run: gives the answers.
        job: the file, and the file for its predictions.
        advance: called with the number of rows after each part.

    Raises:
        DataError: the file cannot be used, or changes meanwhile.
        RunError: the output cannot be written, another command has written it meanwhile, or the network's answer is not
            finite.
    """
    with replacing(job.output) as temporary, open_writer(temporary) as writer:
        for part in run.parts(advance):
            writer.write(run.columns(part))
        if InputFile.of(job.source) != job.input_file:
            raise changed(job.source)
        manifest = run.manifest(job, writer.checksums)
        writer.finish(manifest)
        check_not_taken(job)
    return_free_memory()
    return manifest


def check_answers(finite_N: npt.NDArray[np.bool_], row_N: npt.NDArray[np.int64], source: Path) -> None:
    """Refuse answers that are not finite, as evaluate and calibrate do.

    Raises:
        RunError: with the file, the number of jets, and the row of the first.
    """
    if not finite_N.all():
        raise RunError(
            f"{source}: the network's answer is not finite for {(~finite_N).sum()} of the jets in rows "
            f"{row_N[0]} to {row_N[-1]}, first for row {row_N[finite_N.argmin()]}; look for huge inputs "
            "there (the data config can clip them), or train again with a lower c.lr"
        )
