"""Writing columns of predictions, batch after batch, with a manifest in the file: ROOT and parquet."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.parquet
import uproot
from pydantic import ValidationError

from phaze_ee.data.sources import READ_ERRORS
from phaze_ee.errors import UsageError
from phaze_ee.prediction.manifest import Manifest

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
