"""Writing columns of predictions, batch after batch, with a manifest in the file: ROOT and parquet."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.parquet
import uproot
from pydantic import ValidationError

from phaze_ee.data.sources import READ_ERRORS
from phaze_ee.engine.event_budget import BudgetReport
from phaze_ee.errors import DataError, UsageError
from phaze_ee.exits.drift import DriftReference
from phaze_ee.results.base import Record


class InputFile(Record):
    """A file of jets as it was when it was read."""

    path: str
    size: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """Return what ``path`` is now.

        Raises:
            DataError: it does not exist.
        """
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"data file {path} does not exist (any more); correct the file list") from error
        return cls(path=str(path.absolute()), size=status.st_size, changed_ns=status.st_mtime_ns)


class Recipe(Record):
    """What predictions depend on besides the jets. Hashes where these are not plain values.

    No ``policy``: the full model. ``monitored``: the reference whose bins were counted in, if there is one.
    """

    model: str | None
    policy: str | None
    data: str
    exit_scores: bool
    monitored: str | None
    event_budget: str | None = None


class Manifest(Record):
    """What a file of predictions was made from, and what is in it.

    ``exits`` counts the jets that left at each exit, the full model last; ``macs`` are those of all jets, and
    ``full_macs`` what the full model would have spent. ``drift`` is there where the file was monitored, ``budget``
    where the jets of an event shared one.
    """

    recipe: Recipe
    input: InputFile
    rows: int
    labelled: bool
    exits: dict[str, int]
    macs: int
    full_macs: int
    drift: DriftReference | None = None
    budget: BudgetReport | None = None

    @property
    def jets(self) -> int:
        return sum(self.exits.values())

    def differences(self, recipe: Recipe, input_file: InputFile) -> list[str]:
        """Return what sets these predictions apart from those that would be made now."""
        names = {
            "model": "another model",
            "policy": "another exit policy",
            "data": "another data config or other observers",
            "exit_scores": "another choice of --exit-scores",
            "monitored": "another choice of --monitor",
            "event_budget": "another budget of events, or other events",
        }
        different = [text for name, text in names.items() if getattr(self.recipe, name) != getattr(recipe, name)]
        return [*different, *(["another input file"] if self.input != input_file else [])]


TREE = "Events"
_MANIFEST = "phaze_ee"

Columns = Mapping[str, npt.NDArray[np.generic]]


class PredictionWriter(ABC):
    """A file that grows by batches of jets, all with the same columns, and ends with its manifest."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def write(self, columns: Columns) -> None:
        """Append jets."""

    @abstractmethod
    def finish(self, manifest: Manifest) -> None:
        """Write the manifest; nothing follows it."""

    @abstractmethod
    def close(self) -> None:
        """Close the file, whole or not."""

    @staticmethod
    @abstractmethod
    def read_manifest(path: Path) -> bytes | str:
        """Return the manifest as JSON; raise one of ``READ_ERRORS`` where there is none."""


class RootWriter(PredictionWriter):
    """A TTree ``Events``, compressed by ZSTD."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file = uproot.recreate(path, compression=uproot.ZSTD(1))
        self._tree: Any = None

    def write(self, columns: Columns) -> None:
        if self._tree is None:
            self._tree = self._file.mktree(TREE, {name: column.dtype for name, column in columns.items()})
        self._tree.extend(dict(columns))

    def finish(self, manifest: Manifest) -> None:
        self._file[_MANIFEST] = manifest.model_dump_json()

    def close(self) -> None:
        self._file.close()

    @staticmethod
    def read_manifest(path: Path) -> bytes | str:
        with uproot.open(path) as file:
            return str(file[_MANIFEST])


class ParquetWriter(PredictionWriter):
    """A parquet file with one row group a batch, compressed by ZSTD."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._writer: Any = None

    def write(self, columns: Columns) -> None:
        table = pyarrow.table(dict(columns))
        if self._writer is None:
            self._writer = pyarrow.parquet.ParquetWriter(self.path, table.schema, compression="zstd")
        self._writer.write_table(table)

    def finish(self, manifest: Manifest) -> None:
        self._writer.add_key_value_metadata({_MANIFEST: manifest.model_dump_json()})

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    @staticmethod
    def read_manifest(path: Path) -> bytes | str:
        metadata: dict[bytes, bytes] = pyarrow.parquet.read_metadata(path).metadata
        return metadata[_MANIFEST.encode()]


WRITERS: dict[str, type[PredictionWriter]] = {"root": RootWriter, "parquet": ParquetWriter}


@contextmanager
def open_writer(path: Path) -> Iterator[PredictionWriter]:
    """Open a new file, whose suffix says the format."""
    writer = WRITERS[path.suffix.removeprefix(".")](path)
    try:
        yield writer
    finally:
        writer.close()


def read_manifest(path: Path) -> Manifest:
    """Return what a file of predictions was made from.

    Raises:
        UsageError: it holds no manifest: mode predict did not write it, or another version did.
    """
    try:
        return Manifest.model_validate_json(WRITERS[path.suffix.removeprefix(".")].read_manifest(path))
    except (*READ_ERRORS, ValidationError) as error:
        raise UsageError(
            f"{path} exists and was not written by mode predict of this version; choose another --output, or replace "
            "it with --overwrite"
        ) from error
