"""Opens a file of jets and reads rows of it: ROOT, HDF5 and parquet."""

import lzma
import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import accumulate, chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import awkward as ak
import cramjam
import numpy as np
import uproot

from phaze_ee.data.hdf5_content import other_content
from phaze_ee.data.hdf5_heaps import check_heaps
from phaze_ee.data.parquet_content import check_chunks
from phaze_ee.data.remote import SCHEME, RemoteFile
from phaze_ee.data.root_files import RNTUPLE, Unpacked, checked, chosen_tree, cluster_offsets
from phaze_ee.data.stamps import known_stamp, missing
from phaze_ee.errors import DataError, UsageError, is_out_of_memory

if TYPE_CHECKING:
    import pyarrow


def _arrow_errors() -> tuple[type[Exception], ...]:
    if find_spec("pyarrow") is None:
        return ()
    import pyarrow

    return (pyarrow.ArrowException,)


# What the libraries raise on missing, truncated or damaged files: errors of their own that derive from Exception alone,
# and those of Python that damaged content makes their code raise. Lack of memory is not among them.
READ_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    EOFError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    StopIteration,
    SyntaxError,
    TypeError,
    ValueError,
    cramjam.CompressionError,
    cramjam.DecompressionError,
    lzma.LZMAError,
    struct.error,
    zlib.error,
    *_arrow_errors(),
    uproot.deserialization.DeserializationError,
    uproot.interpretation.identify.NotNumerical,
    uproot.interpretation.identify.UnknownInterpretation,
    uproot.interpretation.objects.CannotBeAwkward,
)

_HDF5_CHUNK_CACHE = 16 * 2**20  # bytes per column: spans that share a compressed chunk unpack it once

_LARGEST = 8  # bytes of a number
_NO_NUMBERS = "does not hold plain numbers (but text, objects, records, times or complex numbers); write it as numbers"


class Source(ABC):
    """An open file with one row per jet.

    Attributes:
        row_count: the number of rows.
        columns: the names of the columns.
        others: what the file holds besides columns, in words.
    """

    row_count: int
    columns: frozenset[str]
    others: str = ""

    @property
    def fields(self) -> Collection[str]:
        """The names of fields of records; a field is no column. They are for messages."""
        return ()

    @property
    def offsets(self) -> Sequence[int]:
        """The first rows of the file's compressed blocks, and the number of rows; a block is unpacked as a whole."""
        return (0, self.row_count)

    def has_gaps(self, column: str) -> bool:
        """Return whether the file says that rows of a column have no value."""
        return False

    @abstractmethod
    def read(self, columns: Sequence[str], start: int, stop: int) -> ak.Array:
        """Return some columns of the rows from ``start`` up to ``stop``, as records."""


class RootSource(Source):
    """A TTree or an RNTuple; ``treename`` may be None if the file has one of them."""

    def __init__(self, path: Path, treename: str | None, stack: ExitStack) -> None:
        file = stack.enter_context(uproot.open(path))
        tree = file[chosen_tree(path, file.classnames(), treename)]
        self._is_ntuple = tree.classname == RNTUPLE
        self._tree = checked(tree) if self._is_ntuple else tree
        self._unpacked = Unpacked.of(path) if self._is_ntuple else None
        self.row_count = int(tree.num_entries)
        self.columns = frozenset(tree.keys(recursive=not self._is_ntuple, full_paths=False))

    @property
    def fields(self) -> Collection[str]:
        return sorted({str(name) for name in self._tree.keys()} - self.columns)  # noqa: SIM118 - a tree

    @property
    def offsets(self) -> Sequence[int]:
        if self._is_ntuple:
            return cluster_offsets(self._tree)
        return [int(offset) for offset in self._tree.common_entry_offsets()]

    def read(self, columns: Sequence[str], start: int, stop: int) -> ak.Array:
        wanted = frozenset(columns)
        return self._tree.arrays(
            filter_name=wanted.__contains__,
            entry_start=start,
            entry_stop=stop,
            array_cache=self._unpacked,
            library="ak",
        )


class ParquetSource(Source):
    """A parquet file, read by row groups."""

    def __init__(self, path: Path, treename: str | None, stack: ExitStack) -> None:
        import pyarrow.parquet

        self._path, self._file = path, stack.enter_context(pyarrow.parquet.ParquetFile(path))
        self.row_count = self._file.metadata.num_rows
        self.columns = frozenset(self._file.schema_arrow.names)

    @property
    def offsets(self) -> Sequence[int]:
        metadata = self._file.metadata
        sizes = (metadata.row_group(index).num_rows for index in range(metadata.num_row_groups))
        return list(accumulate(sizes, initial=0))

    def has_gaps(self, column: str) -> bool:
        metadata = self._file.metadata
        chunks = [metadata.row_group(index).to_dict()["columns"] for index in range(metadata.num_row_groups)]
        own = [chunk["statistics"] for chunk in chain(*chunks) if chunk["path_in_schema"] == column]
        return any(statistics["null_count"] for statistics in own if statistics is not None)

    def read(self, columns: Sequence[str], start: int, stop: int) -> ak.Array:
        groups, skipped, seen = [], 0, 0
        for index in range(self._file.metadata.num_row_groups):
            rows = self._file.metadata.row_group(index).num_rows
            if seen + rows <= start:
                skipped += rows
            elif seen < stop:
                groups.append(index)
            seen += rows
        check_chunks(self._path, self._file, groups)
        table = self._file.read_row_groups(groups, columns=list(columns)).slice(start - skipped, stop - start)
        # weaver's padding reads an array's content from its first element, so the array must not be a slice.
        return ak.to_packed(ak.from_arrow(_without_nulls(table, self._path)))


class Hdf5Source(Source):
    """An HDF5 file with one array per column at its root, as weaver writes and reads it.

    Only numbers are read: arrays, and lists of numbers of variable length. Nothing is unpickled, as PyTables would do
    with attributes and object columns. No link is followed and no other file is opened.
    """

    def __init__(self, path: Path, treename: str | None, stack: ExitStack) -> None:
        import h5py  # half a second, and most files are ROOT files

        file = stack.enter_context(h5py.File(path, "r", rdcc_nbytes=_HDF5_CHUNK_CACHE))
        own = [name for name in file if isinstance(file.get(name, getlink=True), h5py.HardLink)]
        nodes = {name: file[name] for name in own}
        self._path, self._file = path, file
        self._columns = {name: _Hdf5Column.of(node) for name, node in nodes.items() if isinstance(node, h5py.Dataset)}
        self.columns = frozenset(self._columns)
        counts = {name: len(column.dataset) for name, column in self._columns.items() if column.problem is None}
        self.others = other_content(file)
        if not counts:
            found = f", but {self.others}" if self.others else ""
            raise DataError(
                f"{path} has no columns (there are none with numbers at its root{found}); write each column as an "
                "array at the root"
            )
        one_of_each = {name: length for length, name in {length: name for name, length in counts.items()}.items()}
        if len(one_of_each) > 1:
            raise DataError(f"{path}: its columns are not equally long ({one_of_each}); correct the file")
        self.row_count = next(iter(counts.values()))

    def read(self, columns: Sequence[str], start: int, stop: int) -> ak.Array:
        for name in columns:
            problem = self._columns[name].problem or _missing_filter(self._columns[name].dataset)
            if problem is not None:
                raise DataError(f"{self._path}: column {name} {problem}")
        if any(self._columns[name].is_list for name in columns):
            _, length_bytes = self._file.id.get_create_plist().get_sizes()
            check_heaps(self._path, known_stamp(self._path), length_bytes)
        return ak.Array({name: self._columns[name].rows(start, stop) for name in columns})


@dataclass(frozen=True)
class _Hdf5Column:
    """A dataset of an HDF5 file.

    Attributes:
        dataset: the ``h5py.Dataset``.
        dtype: the type of its numbers.
        is_list: whether a row is a list of numbers of variable length.
        problem: why it cannot be read; None: it can.
    """

    dataset: Any
    dtype: Any = None
    is_list: bool = False
    problem: str | None = None

    @classmethod
    def of(cls, dataset: Any) -> Self:
        """Find out what a dataset holds, from its type alone."""
        from h5py import h5t

        kind = dataset.id.get_type()
        is_list = kind.get_class() == h5t.VLEN
        kind = kind.get_super() if is_list else kind
        # PyTables marks its columns of pickles and of text by this attribute: their type is a list of small integers.
        numbers = kind.get_class() in (h5t.INTEGER, h5t.FLOAT, h5t.ENUM, h5t.BITFIELD)
        if not numbers or "PSEUDOATOM" in dataset.attrs:
            return cls(dataset, problem=_NO_NUMBERS)
        if not dataset.shape or (is_list and len(dataset.shape) > 1):
            return cls(dataset, problem="does not have one entry per jet; write it as an array with one row per jet")
        if kind.get_size() > _LARGEST:
            return cls(dataset, problem="has numbers of more than 64 bits; write it in double precision")
        if dataset.is_virtual or dataset.external:
            return cls(dataset, problem="has its numbers in another file; write them into this one")
        is_boolean = kind.get_class() == h5t.BITFIELD  # as PyTables writes them
        return cls(dataset, np.bool_ if is_boolean else kind.dtype.newbyteorder("="), is_list)

    def rows(self, start: int, stop: int) -> ak.Array:
        rows_N = self.dataset[start:stop]
        if not self.is_list:
            return ak.Array(rows_N.astype(self.dtype, copy=False))
        values_V = np.concatenate([np.empty(0, self.dtype), *rows_N]).astype(self.dtype, copy=False)
        return ak.unflatten(values_V, np.array([len(row) for row in rows_N], dtype=np.int64))


SOURCES: Mapping[str, type[RootSource] | type[ParquetSource] | type[Hdf5Source]] = {
    ".root": RootSource,
    ".h5": Hdf5Source,
    ".hdf5": Hdf5Source,
    ".parquet": ParquetSource,
}
_LIBRARIES: Mapping[type[Source], str] = {ParquetSource: "pyarrow", Hdf5Source: "h5py"}


@contextmanager
def open_source(path: Path, treename: str | None = None) -> Iterator[Source]:
    """Open a file by its suffix. Errors of the reading library inside the block become a DataError.

    Raises:
        DataError: the suffix is unknown, or the file is missing, damaged, or has no or several trees.
    """
    kind = SOURCES.get(path.suffix.lower())
    if kind is None:
        raise DataError(f"{path} is not a data file: its name must end in {', '.join(SOURCES)}")
    if isinstance(path, RemoteFile) and kind is not RootSource:
        raise DataError(f"{path}: only ROOT files are read from {SCHEME}; copy it")
    if not path.is_file():
        raise missing(path)
    if (library := _LIBRARIES.get(kind)) is not None and find_spec(library) is None:
        raise UsageError(f"{path} needs {library}, which this environment lacks: pip install {library}")
    try:
        with ExitStack() as stack:
            yield kind(path, treename, stack)
    except READ_ERRORS as error:
        if is_out_of_memory(error):
            raise
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(" ,.;:")
        remedy = (
            "check permissions" if isinstance(error, PermissionError) else "is it complete? copy or download it again"
        )
        raise DataError(f"cannot read {path}: {reason}; {remedy}") from error


def _without_nulls(table: "pyarrow.Table", path: Path) -> "pyarrow.Table":
    """Return the table in types without nulls, which weaver's fast padding needs.

    Raises:
        DataError: a column has missing values.
    """
    import pyarrow
    import pyarrow.compute

    fields = []
    for field, column in zip(table.schema, table.columns, strict=True):
        is_list = hasattr(field.type, "value_type")
        if column.null_count or (is_list and pyarrow.compute.list_flatten(column).null_count):
            raise DataError(f"{path}: column {field.name} has missing values (nulls); write numbers in their place")
        kind = (
            pyarrow.large_list(pyarrow.field("item", field.type.value_type, nullable=False)) if is_list else field.type
        )
        fields.append(pyarrow.field(field.name, kind, nullable=False))
    return table.cast(pyarrow.schema(fields))


def _missing_filter(dataset: Any) -> str | None:
    """Return in words which compression of a dataset cannot be undone here; None if all can."""
    from h5py import h5z

    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(index) for index in range(properties.get_nfilters())]
    if not all(h5z.filter_avail(code) for code, *_ in filters):
        import hdf5plugin  # noqa: F401 - adds the compressions of PyTables and others to the HDF5 library
    for code, _, _, name in filters:
        if not h5z.filter_avail(code):
            label = name.decode(errors="replace") or "unknown"
            return f"is compressed with {label} (HDF5 filter {code}), which cannot be read; write it with zlib or Blosc"
    return None
