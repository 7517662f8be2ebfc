"""A shard of the cache: a file of jets without padding, in blocks that are read one by one.

The format is Arrow IPC with LZ4. It is columnar, any Arrow library reads it (``pyarrow.feather``,
``awkward.from_feather``), and of the formats with compression it is the fastest to read. Measured with 20,000
JetClass-like jets of 39 particles with 26 input variables, on one core, in blocks of 1,000 jets; reading ends with one
matrix of all particles (``benchmarks/cache_formats.py``):

    =====================  ==========  ===============  ==============
    format                 bytes/jet   writing, us/jet  reading, us/jet
    =====================  ==========  ===============  ==============
    Arrow IPC, plain             4099              2.5             1.2
    Arrow IPC, LZ4               2610              5.6             2.5
    Arrow IPC, Zstandard         2252              9.0             5.2
    Parquet, LZ4                 2671             16.0             7.5
    Parquet, Zstandard           2300             19.4            10.3
    HDF5, Blosc2 with LZ4        2708             27.5             7.7
    =====================  ==========  ===============  ==============

Blocks are read, not mapped into memory: if a mapped file is cut short, the process dies.
"""

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.ipc
import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

from phaze_ee.atomic import replacing
from phaze_ee.data.epochs import keep_probability
from phaze_ee.data.jet_columns import InputLayout, JetColumns, ParticleColumns
from phaze_ee.data.rows import SpanJets
from phaze_ee.data.sources import READ_ERRORS
from phaze_ee.data.table import Span
from phaze_ee.errors import DataError, is_out_of_memory

BLOCK_JETS = 1_000  # read at a time
WEIGHT = "/weight"  # the name of sampling weights among the observers while jets are written: no branch is called so
_LABEL = "label"
_WEIGHT = "weight"  # their column in a shard
_OBSERVER = "observer."
_PARTICLES = "particles"
_KEY, _BAD = b"phaze_ee_cache", b"phaze_ee_bad_values"
_HASHED_BYTES = 1 << 20  # at a time


class Shard(BaseModel):
    """The manifest's entry for a shard.

    ``weight_sums``: for each block, the sum of the probabilities to be kept. ``bad``: the inputs that were NaN or
    infinite, see :mod:`phaze_ee.data.bad_values`. ``classes``: the jets of each class, up to the last that has some;
    None in older caches.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str = Field(pattern=r"^shard_\d{5,}\.arrow$")  # beside the manifest: none of another folder is read
    jets: NonNegativeInt
    bytes: NonNegativeInt
    checksum: int
    weight_sums: list[float] | None
    bad: dict[str, int] = Field(default_factory=dict)
    classes: list[NonNegativeInt] | None = None


def write_shard(path: Path, blocks: Iterable[JetColumns], key: str, bad: Mapping[str, int] | None = None) -> None:
    """Write blocks of jets under a temporary name, and rename the file when it is complete.

    Args:
        path: the shard.
        blocks: its jets.
        key: of the cache.
        bad: the inputs that were NaN or infinite.

    Raises:
        RunError: the file cannot be written.
    """
    options = pyarrow.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
    metadata = {_KEY: key, **({_BAD: json.dumps(bad)} if bad else {})}
    with replacing(path) as temporary, pyarrow.OSFile(str(temporary), "w") as file:
        writer: pyarrow.RecordBatchFileWriter | None = None
        for block in blocks:
            record = _record(block)
            if writer is None:
                schema = record.schema.with_metadata(metadata)
                writer = pyarrow.ipc.new_file(file, schema, options=options)
            writer.write_batch(record)
        if writer is None:  # no row passes the selection
            writer = pyarrow.ipc.new_file(file, pyarrow.schema([], metadata), options=options)
        writer.close()


def describe_shard(path: Path, key: str) -> Shard:
    """Return the manifest's entry for a shard on disk.

    Raises:
        DataError: the shard cannot be read, or belongs to another cache.
    """
    with _opened(path) as file:
        schema = file.schema
        if (schema.metadata or {}).get(_KEY) != key.encode():
            raise DataError(f"{path} belongs to another cache; delete it")
        bad: dict[str, int] = json.loads(schema.metadata.get(_BAD, b"{}"))
        jets = sum(file.get_batch(index).num_rows for index in range(file.num_record_batches))
    weights = _column(path, schema, _WEIGHT) if _WEIGHT in schema.names else None
    return Shard(
        name=path.name,
        jets=jets,
        bytes=path.stat().st_size,
        checksum=_checksum(path),
        weight_sums=[float(keep_probability(w_N).sum()) for w_N in weights] if weights else None,
        bad=bad,
        classes=_classes(_column(path, schema, _LABEL)) if jets else [],
    )


@dataclass(frozen=True)
class ShardReader:
    """Reads blocks of shards; a span is one block.

    Attributes:
        layouts: the variables of each collection.
        block_jets: jets per block.
        checksums: the checksum of each shard, which is compared in each process when the shard is first opened.
        checked: the shards that are intact.
    """

    layouts: tuple[InputLayout, ...]
    block_jets: int
    checksums: Mapping[Path, int]
    checked: set[Path] = field(default_factory=set, repr=False, compare=False)

    def read(self, span: Span) -> SpanJets:
        """Return the jets of a block, with their sampling weights where the shard has them.

        Raises:
            DataError: the shard is missing or damaged.
        """
        self._check(span.path)
        with _opened(span.path) as file:
            record = file.get_batch(span.start // self.block_jets)
            columns = {name: record.column(name) for name in record.schema.names}
            names = _columns(self.layouts)
            jets = JetColumns(
                tuple(_particles(columns[name], layout) for name, layout in zip(names, self.layouts, strict=True)),
                torch.from_numpy(_numbers(columns[_LABEL]).copy()),
                {
                    name.removeprefix(_OBSERVER): _numbers(columns[name])
                    for name in columns
                    if name.startswith(_OBSERVER)
                },
            )
        weight_N = _numbers(columns[_WEIGHT]) if _WEIGHT in columns else None
        return SpanJets(jets, np.arange(span.start, span.stop), weight_N)

    def _check(self, path: Path) -> None:
        if path in self.checked:
            return
        with _reading(path):
            if _checksum(path) != self.checksums[path]:
                raise ValueError("its checksum is wrong")
        self.checked.add(path)


def _record(jets: JetColumns) -> pyarrow.RecordBatch:
    names = _columns([part.layout for part in jets.collections])
    particles = {name: _list_array(part) for name, part in zip(names, jets.collections, strict=True)}
    columns = {_WEIGHT if name == WEIGHT else _OBSERVER + name: column for name, column in jets.observers.items()}
    return pyarrow.record_batch({_LABEL: jets.label_N.numpy(), **particles, **columns})


def _columns(layouts: Sequence[InputLayout]) -> list[str]:
    """Return the column of each collection."""
    return [_PARTICLES, *(f"{_PARTICLES}.{layout.collection}" for layout in layouts[1:])]


def _list_array(particles: ParticleColumns) -> pyarrow.ListArray:
    values = [pyarrow.array(row_V) for row_V in particles.rows()]
    offsets = np.concatenate([[0], np.cumsum(particles.count_N.numpy())]).astype(np.int32)
    structs = pyarrow.StructArray.from_arrays(values, names=list(particles.layout.names))
    return pyarrow.ListArray.from_arrays(offsets, structs)


def _particles(particles: pyarrow.Array, layout: InputLayout) -> ParticleColumns:
    values = [particles.values.field(name).to_numpy() for name in layout.names]
    count_N = torch.from_numpy(np.diff(particles.offsets.to_numpy()).astype(np.int64))
    return ParticleColumns.of_rows(layout, values, count_N)


@contextmanager
def _opened(path: Path, columns: list[int] | None = None) -> Iterator[pyarrow.RecordBatchFileReader]:
    options = pyarrow.ipc.IpcReadOptions(use_threads=False, included_fields=columns)
    with _reading(path), pyarrow.OSFile(str(path)) as file:
        yield pyarrow.ipc.open_file(file, options=options)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what the reading library raises into a DataError that names the shard."""
    try:
        yield
    except READ_ERRORS as error:
        if is_out_of_memory(error):
            raise
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(" ,.;:")
        raise DataError(
            f"cannot read {path} of the cache: {reason}; repair it with phaze_ee -m convert, or set "
            "c.use_cache = 'never'"
        ) from error


def _column(path: Path, schema: pyarrow.Schema, name: str) -> list[npt.NDArray[Any]]:
    """Return one column of each block; the others are not read."""
    with _opened(path, [schema.get_field_index(name)]) as file:
        return [_numbers(file.get_batch(index).column(name)) for index in range(file.num_record_batches)]


def _classes(labels: Sequence[npt.NDArray[Any]]) -> list[int]:
    label_N = np.concatenate(labels)
    counts: list[int] = np.bincount(label_N[label_N >= 0]).tolist()  # -1: not known
    return counts


def _numbers(column: pyarrow.Array) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while piece := file.read(_HASHED_BYTES):
            checksum = zlib.crc32(piece, checksum)
    return checksum
