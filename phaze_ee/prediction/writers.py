"""Writes columns of predictions, batch by batch, with a manifest in the file: ROOT and parquet."""

import zlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import uproot
from pydantic import Field, ValidationError

from phaze_ee.data.parquet_content import check_chunks
from phaze_ee.data.sources import READ_ERRORS
from phaze_ee.data.stamps import known_stamp
from phaze_ee.engine.audit import AuditReport
from phaze_ee.engine.event_budget import BudgetReport
from phaze_ee.errors import DataError, UsageError
from phaze_ee.exits.drift import DriftReference
from phaze_ee.machine import Precision
from phaze_ee.results.base import Record

TREE = "Events"
_MANIFEST = "phaze_ee"
_CHECKSUM = "phaze_ee_crc32"  # of the text of the manifest; files of older versions have none

Columns = Mapping[str, npt.NDArray[np.generic]]


class InputFile(Record):
    """A file of jets as it was when it was read."""

    path: str
    size: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """Return the state of a file now.

        Raises:
            DataError: the file does not exist.
        """
        size, changed = known_stamp(path)
        return cls(path=str(path.absolute()), size=size, changed_ns=changed)


class AuditRecipe(Record):
    """The probabilities of an audit, as :class:`phaze_ee.engine.audit.Audit` has them, and its seed."""

    rate: float
    near: float
    seed: int


class Recipe(Record):
    """What predictions depend on besides the jets: plain values, or hashes.

    Attributes:
        model: the weights.
        policy: the exit policy; None: every jet gets the full model.
        data: the data configuration and the observers.
        exit_scores: whether the scores at all exits are written.
        monitored: the reference that the files are compared with; None: they are not monitored.
        event_budget: the budget of events and the events; None: there is no budget.
        audit: which jets are audited; None: none are.
        precision: of the products of the network.
        cascade: whether the score of a cascade is written.
        steps: the policy's calibrated form and the safer ones, together; None: what those would lose is not written.
    """

    model: str | None
    policy: str | None
    data: str
    exit_scores: bool
    monitored: str | None
    event_budget: str | None = None
    audit: AuditRecipe | None = None
    precision: Precision = "float32"
    cascade: bool = False
    steps: str | None = None


class Manifest(Record):
    """What a file of predictions was made from, and what it contains.

    Attributes:
        recipe: what the predictions depend on besides the jets.
        input: the file of jets.
        rows: the rows of that file.
        labelled: whether it has labels.
        bad: the inputs that were NaN or infinite and may pass, see :mod:`phaze_ee.data.bad_values`.
        unclassified: the jets of a file with labels that are of no class, or of several.
        empty: the jets without particles.
        exits: the number of jets that left at each exit, the full model last.
        macs: the multiply-accumulates of all jets.
        full_macs: the multiply-accumulates of all jets in the full model.
        drift: the counts for monitoring; None: the file was not monitored.
        budget: what an event budget did; None: there was none.
        audit: what an audit found; None: there was none.
        checksums: the CRC-32 of the numbers of each column; None in files of older versions, which are not checked.
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
    audit: AuditReport | None = None
    checksums: dict[str, int] | None = None
    unclassified: int = 0
    empty: int = 0
    bad: dict[str, int] = Field(default_factory=dict)

    @property
    def jets(self) -> int:
        """The number of jets."""
        return sum(self.exits.values())

    def differences(self, recipe: Recipe, input_file: InputFile) -> list[str]:
        """Return in words how these predictions differ from those that would be made now."""
        names = {
            "model": "another model",
            "policy": "another exit policy",
            "data": "another data config or other observers",
            "exit_scores": "another choice of --exit-scores",
            "monitored": "another choice of --monitor",
            "event_budget": "another budget of events, or other events",
            "audit": "another choice of --audit, --audit-near or --seed",
            "precision": "another precision",
            "cascade": "an older version that writes no cascade_score",
            "steps": "other safer policies, or an older version that writes no audit_lost",
        }
        changed = {name for name in names if getattr(self.recipe, name) != getattr(recipe, name)}
        changed -= self._implied(recipe, changed)
        different = [text for name, text in names.items() if name in changed]
        return [*different, *(["another input file"] if self.input != input_file else [])]

    def _implied(self, recipe: Recipe, changed: Collection[str]) -> set[str]:
        """Return what has changed only because something else has."""
        implied = {"cascade", "steps"} if "policy" in changed else set()
        if "policy" in changed and self.recipe.monitored is not None and recipe.monitored is not None:
            implied.add("monitored")
        if (self.recipe.audit is None) != (recipe.audit is None):
            implied.add("steps")
        return implied


class PredictionWriter(ABC):
    """A file of predictions that is written batch by batch, all with the same columns, and ends with its manifest.

    Attributes:
        path: the file.
        checksums: the CRC-32 of each column so far.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checksums: dict[str, int] = {}

    def write(self, columns: Columns) -> None:
        """Append jets."""
        self.checksums = {name: _crc32(column, self.checksums.get(name, 0)) for name, column in columns.items()}
        self._append(columns)

    @abstractmethod
    def _append(self, columns: Columns) -> None:
        """Write jets to the file."""

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest. No jets may follow."""
        text = manifest.model_dump_json()
        self._finish({_MANIFEST: text, _CHECKSUM: _checksum(text)})

    @abstractmethod
    def _finish(self, texts: Mapping[str, str]) -> None:
        """Write texts under their names, after the last jets."""

    @abstractmethod
    def close(self) -> None:
        """Close the file, complete or not."""

    @staticmethod
    @abstractmethod
    def read_manifest(path: Path) -> tuple[str, str | None]:
        """Return the manifest as JSON, and its checksum, if there is one; raise one of ``READ_ERRORS`` without it."""

    @staticmethod
    @abstractmethod
    def read_columns(path: Path, names: Iterable[str]) -> Iterator[npt.NDArray[np.generic]]:
        """Yield columns, one after the other; raise one of ``READ_ERRORS`` if one cannot be read."""


class RootWriter(PredictionWriter):
    """Writes a TTree ``Events``, compressed with ZSTD."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file = uproot.recreate(path, compression=uproot.ZSTD(1))
        self._tree: Any = None

    def _append(self, columns: Columns) -> None:
        if self._tree is None:
            self._tree = self._file.mktree(TREE, {name: column.dtype for name, column in columns.items()})
        self._tree.extend(dict(columns))

    def _finish(self, texts: Mapping[str, str]) -> None:
        for name, text in texts.items():
            self._file[name] = text

    def close(self) -> None:
        self._file.close()

    @staticmethod
    def read_manifest(path: Path) -> tuple[str, str | None]:
        with uproot.open(path) as file:
            checksum = file.get(_CHECKSUM)
            return str(file[_MANIFEST]), None if checksum is None else str(checksum)

    @staticmethod
    def read_columns(path: Path, names: Iterable[str]) -> Iterator[npt.NDArray[np.generic]]:
        with uproot.open(path) as file:
            for name in names:
                yield file[TREE][name].array(library="np")


class ParquetWriter(PredictionWriter):
    """Writes a parquet file with one row group per batch, compressed with ZSTD."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._writer: Any = None

    def _append(self, columns: Columns) -> None:
        import pyarrow.parquet

        table = pyarrow.table(dict(columns))
        if self._writer is None:
            self._writer = pyarrow.parquet.ParquetWriter(self.path, table.schema, compression="zstd")
        self._writer.write_table(table)

    def _finish(self, texts: Mapping[str, str]) -> None:
        self._writer.add_key_value_metadata(texts)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    @staticmethod
    def read_manifest(path: Path) -> tuple[str, str | None]:
        import pyarrow.parquet

        metadata: dict[bytes, bytes] = pyarrow.parquet.read_metadata(path).metadata
        checksum = metadata.get(_CHECKSUM.encode())
        return metadata[_MANIFEST.encode()].decode(), None if checksum is None else checksum.decode()

    @staticmethod
    def read_columns(path: Path, names: Iterable[str]) -> Iterator[npt.NDArray[np.generic]]:
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(path) as file:
            check_chunks(path, file, range(file.num_row_groups))
            for name in names:
                yield file.read(columns=[name])[name].to_numpy()


WRITERS: dict[str, type[PredictionWriter]] = {"root": RootWriter, "parquet": ParquetWriter}


@contextmanager
def open_writer(path: Path) -> Iterator[PredictionWriter]:
    """Open a new file. Its suffix, ``.root`` or ``.parquet``, gives the format."""
    writer = _kind(path)(path)
    try:
        yield writer
    finally:
        writer.close()


def read_manifest(path: Path) -> Manifest:
    """Return the manifest of a file of predictions.

    Raises:
        UsageError: the file has none that this version can read: another program or another version wrote it, or it is
            damaged.
    """
    try:
        text, checksum = _kind(path).read_manifest(path)
        if checksum not in (None, _checksum(text)):
            raise UsageError(f"{path} exists and is damaged (its manifest); replace it with --overwrite")
        return Manifest.model_validate_json(text)
    except (*READ_ERRORS, ValidationError) as error:
        raise UsageError(
            f"{path} exists and was not written by mode predict of this version; choose another --output, or replace "
            "it with --overwrite"
        ) from error


def read_column(path: Path, name: str) -> npt.NDArray[np.generic]:
    """Return a column of a file of predictions.

    Raises:
        UsageError: it cannot be read.
    """
    return read_columns(path, [name])[name]


def read_columns(path: Path, names: Sequence[str]) -> dict[str, npt.NDArray[np.generic]]:
    """Return columns of a file of predictions by their names.

    Raises:
        UsageError: one cannot be read.
    """
    found: dict[str, npt.NDArray[np.generic]] = {}
    try:
        found.update(zip(names, _kind(path).read_columns(path, names), strict=True))
    except (*READ_ERRORS, DataError) as error:
        raise UsageError(
            f"{path} has no column {names[len(found)]} that can be read; predict its jets again"
        ) from error
    return found


def check_columns(path: Path, manifest: Manifest) -> None:
    """Check that the columns of a file of predictions hold what was written, for as many jets as its manifest says.

    Raises:
        UsageError: they do not: the file is damaged.
    """
    checksums: Mapping[str, int | None] = manifest.checksums or {"entry": None}
    intact = 0
    try:
        for column, checksum in zip(_kind(path).read_columns(path, checksums), checksums.values(), strict=True):
            if len(column) != manifest.jets or checksum not in (None, _crc32(column)):
                break
            intact += 1
    except (*READ_ERRORS, DataError):
        pass  # the column that cannot be read is named below
    if intact < len(checksums):
        column_name = list(checksums)[intact]
        raise UsageError(f"{path} exists and is damaged (column {column_name}); replace it with --overwrite")


def _kind(path: Path) -> type[PredictionWriter]:
    return WRITERS[path.suffix.removeprefix(".")]


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def _crc32(column: npt.NDArray[np.generic], start: int = 0) -> int:
    """Return the checksum of the numbers, in the byte order of most machines."""
    return zlib.crc32(np.ascontiguousarray(column, column.dtype.newbyteorder("<")).data.cast("B"), start)
