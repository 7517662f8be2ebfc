"""Damaged files of jets, in every format and compression: an error that names the file, or the numbers."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import awkward as ak
import h5py
import hdf5plugin
import numpy as np
import pyarrow.parquet
import pytest
import uproot

from phaze_ee.data.cache import reader, shards
from phaze_ee.data.cache.reader import Cache
from phaze_ee.data.sources import open_source
from phaze_ee.errors import DataError
from tests.data.small import schema

PLACES = 10
JETS = 300
_RNG = np.random.default_rng(1)
COUNT_N = _RNG.integers(1, 30, JETS)
# Half of the numbers are the same, so that every compression finds something to do.
PX_V = np.where(np.arange(COUNT_N.sum()) % 2, _RNG.normal(size=COUNT_N.sum()), 1).astype(np.float32)
PT_N = np.arange(JETS, dtype=np.float32) % 7
COLUMNS = ("part_px", "jet_pt")

Write = Callable[[Path], None]


def root(compression: uproot.compression.Compression) -> Write:
    def write(path: Path) -> None:
        columns = {"part_px": ak.unflatten(PX_V, COUNT_N), "jet_pt": PT_N}
        with uproot.recreate(path, compression=compression) as file:
            file.mktree("tree", {"part_px": "var * float32", "jet_pt": "float32"}).extend(columns)

    return write


def ntuple(compression: uproot.compression.Compression) -> Write:
    def write(path: Path) -> None:
        with uproot.recreate(path, compression=compression) as file:
            file.mkrntuple("tree", {"part_px": ak.unflatten(PX_V, COUNT_N), "jet_pt": PT_N})

    return write


def parquet(compression: str) -> Write:
    def write(path: Path) -> None:
        lists = pyarrow.array(np.split(PX_V, np.cumsum(COUNT_N)[:-1]))
        table = pyarrow.table({"part_px": lists, "jet_pt": PT_N})
        pyarrow.parquet.write_table(table, path, compression=compression)

    return write


def hdf5(**compression: object) -> Write:
    def write(path: Path) -> None:
        padded_NP = np.zeros((JETS, 30), dtype=np.float32)
        padded_NP[np.arange(30) < COUNT_N[:, None]] = PX_V
        with h5py.File(path, "w") as file:
            file.create_dataset("part_px", data=padded_NP, chunks=(50, 30), **compression)
            file.create_dataset("jet_pt", data=PT_N, chunks=(50,), **compression)

    return write


FILES: dict[str, Write] = {
    "zlib.root": root(uproot.ZLIB(1)),
    "lzma.root": root(uproot.LZMA(1)),
    "lz4.root": root(uproot.LZ4(1)),
    "zstd.root": root(uproot.ZSTD(1)),
    "zlib_ntuple.root": ntuple(uproot.ZLIB(1)),
    "zstd_ntuple.root": ntuple(uproot.ZSTD(1)),
    "snappy.parquet": parquet("snappy"),
    "gzip.parquet": parquet("gzip"),
    "zstd.parquet": parquet("zstd"),
    "brotli.parquet": parquet("brotli"),
    "lz4.parquet": parquet("lz4"),
    "gzip.h5": hdf5(compression="gzip"),
    "lzf.h5": hdf5(compression="lzf"),
    "blosc.h5": hdf5(**hdf5plugin.Blosc()),
}
# These compressions keep a checksum of the numbers; the others can give wrong ones.
CHECKED = ("zlib.root", "lzma.root", "lz4.root")


def read(path: Path) -> ak.Array:
    with open_source(path) as source:
        return source.read(COLUMNS, 0, source.row_count)


def read_or_error(path: Path) -> ak.Array | str:
    try:
        return read(path)
    except DataError as error:
        return str(error)


@pytest.mark.parametrize("name", FILES)
def test_ten_damaged_places(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    FILES[name](path)
    whole, numbers = path.read_bytes(), read(path)
    assert len(numbers) == JETS
    errors = 0
    for place in np.linspace(0, len(whole) - 41, PLACES, dtype=int):
        damaged = bytes(byte ^ 0xFF for byte in whole[place : place + 40])
        path.write_bytes(whole[:place] + damaged + whole[place + 40 :])
        found = read_or_error(path)
        if isinstance(found, str):
            errors += 1
            assert str(path) in found
            assert "\n" not in found
        elif name in CHECKED:
            assert ak.array_equal(found, numbers)
    assert errors


@pytest.mark.parametrize("name", FILES)
def test_ten_places_where_a_file_ends(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    FILES[name](path)
    whole, numbers = path.read_bytes(), read(path)
    errors = 0
    for length in np.linspace(0, len(whole) - 1, PLACES, dtype=int):
        path.write_bytes(whole[:length])
        found = read_or_error(path)
        if isinstance(found, str):
            errors += 1
            assert str(path) in found
        else:
            assert ak.array_equal(found, numbers), "a ROOT file ends with things that reading does not need"
    assert errors >= PLACES - 3


def test_lack_of_memory_is_no_damage(tmp_path: Path) -> None:
    FILES["zlib.root"](tmp_path / "zlib.root")
    with pytest.raises(MemoryError), open_source(tmp_path / "zlib.root"):
        raise MemoryError
    with pytest.raises(pyarrow.ArrowMemoryError), open_source(tmp_path / "zlib.root"):
        raise pyarrow.ArrowMemoryError("malloc of size 8 failed")


def test_a_parquet_chunk_of_another_type_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "jets.parquet"
    FILES["snappy.parquet"](path)
    whole, found = path.read_bytes(), set()
    for place in range(len(whole) - 600, len(whole) - 8):  # the table of contents
        path.write_bytes(whole[:place] + b"\x7e" + whole[place + 1 :])
        if type_of_a_chunk(path) == "UNKNOWN":
            found.add(read_or_error(path))  # pyarrow alone would end the process
    assert any("has UNKNOWN numbers in column jet_pt, which holds" in str(message) for message in found)


def type_of_a_chunk(path: Path) -> str | None:
    try:
        metadata = pyarrow.parquet.read_metadata(path)
        return str(metadata.row_group(0).column(metadata.num_columns - 1).physical_type)
    except (pyarrow.ArrowException, OSError, IndexError):
        return None


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "jets.root"
    FILES["zlib.root"](path)
    with pytest.raises(DataError, match=r"Permission denied.*; check permissions$"), open_source(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def test_jets_of_more_classes_than_the_data_config_has(tmp_path: Path) -> None:
    shard = shards.Shard(name="shard_00000.arrow", jets=3, bytes=1, checksum=0, weight_sums=None, classes=[1] * 11)
    known = {"version": reader.VERSION, "key": "", "training": True, "labelled": True, "block_jets": 4, "files": []}
    manifest = reader.Contents(**known, options=schema().options, shards=[shard]).sealed()  # type: ignore[arg-type]
    with pytest.raises(
        DataError, match=r"shard_00000\.arrow has jets of 11 classes, and the data config has 10; delete"
    ):
        Cache(tmp_path, manifest).jets_of_classes()
