"""Measures bytes per jet and time per jet of file formats for a cache.

python benchmarks/cache_formats.py data_configs/JetClass_full.yaml FILE.root …

The jets are shuffled, as in a shard for training, and written in blocks of 1,000. Reading ends with one matrix of the
values of all particles of a block. Times are CPU times of one core, the best of three.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import tables
from rich.console import Console
from rich.table import Table

from phaze_ee.data.batches import Shuffled
from phaze_ee.data.cache.shards import BLOCK_JETS, _record
from phaze_ee.data.jet_columns import JetColumns
from phaze_ee.data.row_spans import split_into_spans
from phaze_ee.data.rows import RowReader
from phaze_ee.data.schema import DataSchema

Write = Callable[[Path, Sequence[JetColumns]], None]
Read = Callable[[Path], None]


def mixed_blocks(config: Path, files: Sequence[Path]) -> list[JetColumns]:
    schema = DataSchema.load(config)
    reader = RowReader(schema, training=True)
    spans = split_into_spans(schema, files, BLOCK_JETS)
    jets = JetColumns.concatenate([reader.read(span).jets for span in spans])
    mixed = Shuffled.by(np.random.default_rng(0), jets)
    return [mixed.take(slice(start, start + BLOCK_JETS)) for start in range(0, len(jets), BLOCK_JETS)]


def matrix(record: pyarrow.RecordBatch) -> None:
    values = record.column("particles").values
    np.stack([values.field(index).to_numpy() for index in range(values.type.num_fields)])


def arrow(compression: str | None) -> tuple[Write, Read]:
    def write(path: Path, blocks: Sequence[JetColumns]) -> None:
        options = pyarrow.ipc.IpcWriteOptions(compression=compression, use_threads=False)
        records = [_record(block) for block in blocks]
        with (
            pyarrow.OSFile(str(path), "w") as file,
            pyarrow.ipc.new_file(file, records[0].schema, options=options) as writer,
        ):
            for record in records:
                writer.write_batch(record)

    def read(path: Path) -> None:
        options = pyarrow.ipc.IpcReadOptions(use_threads=False)
        with pyarrow.OSFile(str(path)) as file, pyarrow.ipc.open_file(file, options=options) as opened:
            for index in range(opened.num_record_batches):
                matrix(opened.get_batch(index))

    return write, read


def parquet(compression: str) -> tuple[Write, Read]:
    def write(path: Path, blocks: Sequence[JetColumns]) -> None:
        table = pyarrow.Table.from_batches([_record(block) for block in blocks])
        pyarrow.parquet.write_table(
            table, path, row_group_size=BLOCK_JETS, compression=compression, use_dictionary=False
        )

    def read(path: Path) -> None:
        with pyarrow.parquet.ParquetFile(path) as file:
            for index in range(file.num_row_groups):
                matrix(file.read_row_group(index, use_threads=False).combine_chunks().to_batches()[0])

    return write, read


def hdf5(compression: str) -> tuple[Write, Read]:
    def write(path: Path, blocks: Sequence[JetColumns]) -> None:
        filters = tables.Filters(5, compression, shuffle=True)
        with tables.open_file(str(path), "w") as file:
            for number, block in enumerate(blocks):
                values_CV = block.collections[0].rows()
                file.create_carray("/", f"block_{number}", obj=values_CV, filters=filters)

    def read(path: Path) -> None:
        with tables.open_file(str(path)) as file:
            for node in file.list_nodes("/"):
                node.read()

    return write, read


def cpu_seconds(call: Callable[[], None]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    arguments = parser.parse_args()
    pyarrow.set_cpu_count(1)
    tables.set_blosc_max_threads(1)
    blocks = mixed_blocks(arguments.config, arguments.files)
    jets = sum(map(len, blocks))
    formats = {
        "Arrow IPC, plain": arrow(None),
        "Arrow IPC, LZ4": arrow("lz4"),
        "Arrow IPC, Zstandard": arrow("zstd"),
        "Parquet, LZ4": parquet("lz4"),
        "Parquet, Zstandard": parquet("zstd"),
        "HDF5, Blosc2 with LZ4": hdf5("blosc2:lz4"),
    }
    table = Table("format", "bytes/jet", "writing, µs/jet", "reading, µs/jet", title=f"{jets:,} jets")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "blocks"
        for name, (write, read) in formats.items():
            written = min(cpu_seconds(lambda write=write: write(path, blocks)) for _ in range(3))  # type: ignore[misc]
            seen = min(cpu_seconds(lambda read=read: read(path)) for _ in range(3))  # type: ignore[misc]
            size = path.stat().st_size / jets
            table.add_row(name, f"{size:,.0f}", f"{written / jets * 1e6:.1f}", f"{seen / jets * 1e6:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
