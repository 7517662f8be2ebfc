"""Opens a file of jets and reads rows of it: ROOT, HDF5 and parquet."""

import lzma
import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import accumulate
from pathlib import Path

import awkward as ak
import numpy as np
import numpy.typing as npt
import pyarrow
import uproot

from phaze_ee.errors import DataError

# What the three libraries raise on missing, truncated or damaged files, found by cutting files and flipping bytes.
READ_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    zlib.error,
    pyarrow.ArrowException,
    uproot.deserialization.DeserializationError,
)


class Source(ABC):
    """An open file with one row per jet.

    Attributes:
        row_count: the number of rows.
        columns: the names of the columns.
    """

    row_count: int
    columns: frozenset[str]

    @property
    def offsets(self) -> Sequence[int]:
        """The first rows of the file's compressed blocks, and the number of rows; a block is unpacked as a whole."""
        return (0, self.row_count)

    @abstractmethod
    def read(self, columns: Sequence[str], start: int, stop: int) -> ak.Array:
        """Return some columns of the rows from ``start`` up to ``stop``, as records."""


class RootSource(Source):
    """A TTree; ``treename`` may be None if the file has one tree."""

    def __init__(self, path: Path, treename: str | None, stack: ExitStack) -> None:
        file = stack.enter_context(uproot.open(path))
        trees = sorted({key.split(";")[0] for key, kind in file.classnames().items() if kind == "TTree"})
        self._tree = file[_chosen_tree(path, trees, treename)]
        self.row_count = int(self._tree.num_entries)
        self.columns = frozenset(self._tree.keys(full_paths=False))

    @property
    def offsets(self) -> Sequence[int]:
        return [int(offset) for offset in self._tree.common_entry_offsets()]

    def read(self, columns: Sequence[str], start: int, stop: int) -> ak.Array:
        wanted = frozenset(columns)
        return self._tree.arrays(filter_name=wanted.__contains__, entry_start=start, entry_stop=stop, library="ak")


class ParquetSource(Source):
    """A parquet file, read by row groups."""

    def __init__(self, path: Path, treename: str | None, stack: ExitStack) -> None:
        import pyarrow.parquet

        self._file = stack.enter_context(pyarrow.parquet.ParquetFile(path))
        self.row_count = self._file.metadata.num_rows
        self.columns = frozenset(self._file.schema_arrow.names)

    @property
    def offsets(self) -> Sequence[int]:
        metadata = self._file.metadata
        sizes = (metadata.row_group(index).num_rows for index in range(metadata.num_row_groups))
        return list(accumulate(sizes, initial=0))

    def read(self, columns: Sequence[str], start: int, stop: int) -> ak.Array:
        groups, skipped, seen = [], 0, 0
        for index in range(self._file.metadata.num_row_groups):
            rows = self._file.metadata.row_group(index).num_rows
            if seen + rows <= start:
                skipped += rows
            elif seen < stop:
                groups.append(index)
            seen += rows
        table = self._file.read_row_groups(groups, columns=list(columns)).slice(start - skipped, stop - start)
        # weaver's padding reads an array's content from its first element, so the array must not be a slice.
        return ak.to_packed(ak.from_arrow(_without_nulls(table)))


class Hdf5Source(Source):
    """An HDF5 file with one array per column at its root, as weaver writes and reads it."""

    def __init__(self, path: Path, treename: str | None, stack: ExitStack) -> None:
        import tables

        self._root = stack.enter_context(tables.open_file(str(path))).root
        leaves = [node for node in self._root._f_list_nodes() if isinstance(node, tables.Array | tables.VLArray)]
        self.columns = frozenset(leaf.name for leaf in leaves)
        counts = {leaf.name: int(leaf.nrows) for leaf in leaves}
        if len(set(counts.values())) != 1:
            raise DataError(f"{path}: its columns are not equally long ({counts or 'there are none'})")
        self.row_count = next(iter(counts.values()))

    def read(self, columns: Sequence[str], start: int, stop: int) -> ak.Array:
        return ak.Array({name: _jagged(self._root[name][start:stop]) for name in columns})


SOURCES: Mapping[str, type[RootSource] | type[ParquetSource] | type[Hdf5Source]] = {
    ".root": RootSource,
    ".h5": Hdf5Source,
    ".hdf5": Hdf5Source,
    ".parquet": ParquetSource,
}


@contextmanager
def open_source(path: Path, treename: str | None = None) -> Iterator[Source]:
    """Open a file by its suffix. Errors of the reading library inside the block become a DataError.

    Raises:
        DataError: the suffix is unknown, or the file is missing, damaged, or has no or several trees.
    """
    kind = SOURCES.get(path.suffix.lower())
    if kind is None:
        raise DataError(f"{path} is not a data file: its name must end in {', '.join(SOURCES)}")
    if not path.is_file():
        raise DataError(f"data file {path} does not exist (any more); restore it or correct the file list")
    try:
        with ExitStack() as stack:
            yield kind(path, treename, stack)
    except READ_ERRORS as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(" ,.;:")
        raise DataError(f"cannot read {path}: {reason}; is it complete? copy or download it again") from error


def _without_nulls(table: pyarrow.Table) -> pyarrow.Table:
    """Return the table in types without nulls, which weaver's fast padding needs."""
    import pyarrow.compute

    fields = []
    for field, column in zip(table.schema, table.columns, strict=True):
        is_list = hasattr(field.type, "value_type")
        if column.null_count or (is_list and pyarrow.compute.list_flatten(column).null_count):
            raise ValueError(f"column {field.name} has nulls")
        kind = (
            pyarrow.large_list(pyarrow.field("item", field.type.value_type, nullable=False)) if is_list else field.type
        )
        fields.append(pyarrow.field(field.name, kind, nullable=False))
    return table.cast(pyarrow.schema(fields))


def _jagged(rows: npt.NDArray[np.generic] | list[npt.NDArray[np.generic]]) -> ak.Array:
    """Return one entry per row; PyTables gives a list of arrays for a column of variable length."""
    if isinstance(rows, np.ndarray):
        return ak.Array(rows)
    return ak.unflatten(np.concatenate(rows), [len(row) for row in rows])


def _chosen_tree(path: Path, trees: Collection[str], treename: str | None) -> str:
    found = ", ".join(trees) or "none"
    if treename is None and len(trees) != 1:
        raise DataError(f"{path} must hold one tree, it holds: {found}; name the tree by treename in the data config")
    if treename is not None and treename not in trees:
        raise DataError(f"{path} has no tree {treename!r} (trees: {found}); correct treename in the data config")
    return next(iter(trees)) if treename is None else treename
