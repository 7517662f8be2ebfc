"""HDF5 files: the numbers that PyTables wrote, and nothing that would have to be unpickled."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pytest
import tables

from phaze_ee.data.sources import open_source
from phaze_ee.errors import DataError

ROWS = 40
VALUES = np.random.default_rng(1).normal(size=(ROWS, 6)).astype(np.float32)
Write = Callable[[Any], Any]


class Command:
    """Runs a command when it is unpickled: it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def read(path: Path, name: str, start: int = 0, stop: int = ROWS) -> ak.Array:
    with open_source(path) as source:
        return source.read([name], start, stop)[name]


def carray(compression: str, **options: Any) -> Write:
    filters = tables.Filters(5, compression, **options)
    return lambda file: file.create_carray("/", "x", obj=VALUES, filters=filters)


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda file: file.create_array("/", "x", VALUES), VALUES),
        (lambda file: file.create_array("/", "x", VALUES[:, 0].astype(">f8")), VALUES[:, 0].astype(np.float64)),
        (lambda file: file.create_array("/", "x", np.arange(ROWS, dtype=np.uint16)), np.arange(ROWS, dtype=np.uint16)),
        (lambda file: file.create_array("/", "x", VALUES[:, 0] > 0), VALUES[:, 0] > 0),
        (lambda file: file.create_earray("/", "x", obj=VALUES), VALUES),
        (carray("zlib", shuffle=True, fletcher32=True), VALUES),
        (carray("bzip2"), VALUES),
        (carray("blosc:lz4", bitshuffle=True), VALUES),
        (carray("blosc:zstd"), VALUES),
        (carray("blosc2:blosclz"), VALUES),
    ],
)
def test_arrays_of_pytables_read_bit_for_bit(write: Write, expected: Any, tmp_path: Path) -> None:
    path = tmp_path / "jets.h5"
    with tables.open_file(str(path), "w") as file:
        write(file)
    for start, stop in ((0, ROWS), (3, 17), (5, 5)):
        column = ak.to_numpy(read(path, "x", start, stop))
        assert column.dtype == expected.dtype
        assert len(column) == stop - start
        np.testing.assert_array_equal(column.reshape(expected[start:stop].shape), expected[start:stop])


@pytest.mark.parametrize("atom", [tables.Float32Atom(), tables.Int16Atom(), tables.UInt8Atom(), tables.BoolAtom()])
def test_lists_of_pytables_read_bit_for_bit(atom: Any, tmp_path: Path) -> None:
    path = tmp_path / "jets.h5"
    lists = [np.arange(row % 4).astype(atom.dtype) for row in range(ROWS)]
    with tables.open_file(str(path), "w") as file:
        column = file.create_vlarray("/", "x", atom)
        for numbers in lists:
            column.append(numbers)
    for start, stop in ((0, ROWS), (3, 17), (4, 5), (5, 5)):
        rows = read(path, "x", start, stop)
        assert ak.to_numpy(ak.flatten(rows)).dtype == atom.dtype
        assert rows.to_list() == [numbers.tolist() for numbers in lists[start:stop]]


def test_nothing_in_a_file_is_unpickled(tmp_path: Path) -> None:
    path, trace = tmp_path / "jets.h5", tmp_path / "a_command_ran"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTables: pickles are slow
        with tables.open_file(str(path), "w") as file:
            file.create_array("/", "x", VALUES).attrs.note = Command(trace)
            file.root._v_attrs.note = Command(trace)
            file.create_vlarray("/", "objects", tables.ObjectAtom()).append(Command(trace))
    with tables.open_file(str(path)) as file:
        assert file.root.x.attrs.note is None
    assert trace.exists(), "the bait works: PyTables runs the command"
    trace.unlink()
    np.testing.assert_array_equal(read(path, "x"), VALUES)
    with pytest.raises(DataError, match=r"jets\.h5: column objects does not hold plain numbers"):
        read(path, "objects", 0, 1)
    assert not trace.exists()


@pytest.mark.parametrize(
    "write",
    [
        lambda file: file.create_vlarray("/", "x", tables.ObjectAtom()).append({"a": 1}),
        lambda file: file.create_vlarray("/", "x", tables.VLStringAtom()).append(b"text"),
        lambda file: file.create_vlarray("/", "x", tables.VLUnicodeAtom()).append("text"),
        lambda file: file.create_array("/", "x", np.array([b"text"])),
        lambda file: file.create_array("/", "x", np.array([1j])),
        lambda file: file.create_table("/", "x", np.zeros(1, dtype=[("pt", np.float32)])),
        lambda file: file.create_carray("/", "x", tables.Time64Atom(), (1,)),
    ],
)
def test_what_is_no_number_is_refused_by_name(write: Write, tmp_path: Path) -> None:
    path = tmp_path / "jets.h5"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with tables.open_file(str(path), "w") as file:
            write(file)
            file.create_array("/", "y", np.zeros(1))
    assert read(path, "y", 0, 1).to_list() == [0]
    with pytest.raises(DataError, match=r"jets\.h5: column x does not hold plain numbers .*; write it as numbers"):
        read(path, "x", 0, 1)


def test_no_other_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(np.zeros(ROWS).tobytes())
    path = tmp_path / "jets.h5"
    with h5py.File(path, "w") as file:
        file["y"] = np.zeros(ROWS)
        file.create_dataset("x", (ROWS,), np.float64, external=[(str(tmp_path / "secret"), 0, h5py.h5f.UNLIMITED)])
        layout = h5py.VirtualLayout((ROWS,), np.float64)
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (ROWS,))
        file.create_virtual_dataset("virtual", layout)
        file["linked"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "x")
    for name in ("x", "virtual"):
        with pytest.raises(DataError, match=rf"column {name} has its numbers in another file"):
            read(path, name)
    with open_source(path) as source:
        assert source.columns == {"x", "y", "virtual"}, "links are no columns"
        assert source.others == "the link linked, which is not followed"


def test_an_unknown_compression_is_named(tmp_path: Path) -> None:
    """As of PyTables' LZO (filter 305), which no package offers to other readers; the filter itself is not needed."""
    path = tmp_path / "jets.h5"
    with h5py.File(path, "w") as file:
        file["y"] = np.zeros(ROWS)
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((ROWS,))
        properties.set_filter(305, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((ROWS,))
        h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_DOUBLE, space, properties)
    with pytest.raises(DataError, match=r"column x is compressed with .* \(HDF5 filter 305\), which cannot be read"):
        read(path, "x")
    assert read(path, "y").to_list() == [0] * ROWS


def test_columns_of_other_lengths_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "jets.h5"
    with h5py.File(path, "w") as file:
        file["a"], file["b"] = np.zeros(3), np.zeros(4)
    with pytest.raises(DataError, match=r"its columns are not equally long \({'a': 3, 'b': 4}\)"):
        read(path, "a")
    with h5py.File(path, "w") as file:
        file["text"] = "no jets"
    with pytest.raises(DataError, match="there are none with numbers"):
        read(path, "text")


def test_a_list_of_size_zero_is_no_endless_loop(tmp_path: Path) -> None:
    """The HDF5 library itself never returns."""
    path = tmp_path / "jets.h5"
    with h5py.File(path, "w") as file:
        lists = file.create_dataset("x", (ROWS,), dtype=h5py.vlen_dtype(np.float32))
        for row in range(ROWS):
            lists[row] = VALUES[row, : row % 6]
    assert ak.num(read(path, "x")).tolist() == [row % 6 for row in range(ROWS)]
    content = bytearray(path.read_bytes())
    first = content.index(b"GCOL") + 16
    content[first : first + 16] = bytes(16)
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{path}: a list of numbers is damaged \(byte {first}\)"):
        read(path, "x")


def test_a_long_double_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "jets.h5"
    with h5py.File(path, "w") as file:
        file["x"], file["y"] = np.zeros(3, dtype=np.longdouble), np.zeros(3)
    with pytest.raises(DataError, match=r"column x has numbers of more than 64 bits; write it in double precision"):
        read(path, "x", 0, 3)
