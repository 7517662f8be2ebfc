"""RNTuples give the numbers of TTrees; folders, cycles, and messages that say what a ROOT file holds."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt
import pytest
import torch
import uproot
import xxhash

from phaze_ee.data import root_files
from phaze_ee.data.loaders import evaluation_loader, training_loader
from phaze_ee.data.root_files import Unpacked, checked
from phaze_ee.data.row_spans import spans_of
from phaze_ee.data.sources import open_source
from phaze_ee.errors import DataError
from tests.data.small import jet_columns, schema
from tests.jetclass_files import write_root

CLUSTERS = (30, 1, 50, 19)


def write_ntuple(path: Path, columns: dict[str, Any], name: str = "tree") -> Path:
    """Write an RNTuple with a cluster for each number of ``CLUSTERS``."""
    ends = np.cumsum(CLUSTERS)
    parts = [{key: column[a:b] for key, column in columns.items()} for a, b in zip([0, *ends], ends, strict=False)]
    with uproot.recreate(path) as file:
        ntuple = file.mkrntuple(name, parts[0])
        for part in parts[1:]:
            ntuple.extend(part)
    return path


@pytest.fixture(scope="module")
def columns() -> dict[str, Any]:
    return jet_columns(sum(CLUSTERS))


@pytest.fixture(scope="module")
def ntuple(columns: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ntuple(tmp_path_factory.mktemp("ntuple") / "jets.root", columns)


def test_the_numbers_are_those_of_a_tree(ntuple: Path, columns: dict[str, Any], tmp_path: Path) -> None:
    tree = write_root(tmp_path / "jets.root", columns)
    own = schema(selection="jet_index % 7 > 0")
    pairs = zip(*(evaluation_loader(own, [path], batch_size=16) for path in (tree, ntuple)), strict=True)
    for ours, theirs in pairs:
        assert torch.equal(ours.label_N, theirs.label_N)
        np.testing.assert_array_equal(ours.observers["jet_index"], theirs.observers["jet_index"])
        for kind in ("points", "features", "vectors", "mask"):
            assert torch.equal(getattr(ours.inputs.padded(), kind), getattr(theirs.inputs.padded(), kind))
    loaders = [training_loader(own, [path], batch_size=16, num_workers=0, seed=3) for path in (tree, ntuple)]
    for ours, theirs in zip(*loaders, strict=True):
        assert torch.equal(ours.inputs.padded().features, theirs.inputs.padded().features)


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 1), (29, 31), (30, 31), (31, 100), (5, 100), (100, 100)])
def test_rows_across_clusters(ntuple: Path, columns: dict[str, Any], start: int, stop: int) -> None:
    with open_source(ntuple, "tree") as source:
        assert source.row_count == 100
        assert list(source.offsets) == [0, 30, 31, 81, 100]
        found = source.read(["part_px", "jet_index"], start, stop)
    assert sorted(found.fields) == ["jet_index", "part_px"]
    np.testing.assert_array_equal(found["jet_index"], columns["jet_index"][start:stop])
    assert ak.array_equal(ak.to_packed(found["part_px"]), ak.to_packed(columns["part_px"][start:stop]))
    assert [span.stop for span in spans_of(ntuple, "tree", 40, as_packed=True)] == [31, 81, 100]


def test_a_cluster_is_unpacked_once(columns: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_ntuple(tmp_path / "jets.root", columns)
    monkeypatch.setattr(root_files, "_UNPACKED", uproot.LRUArrayCache("1 MB"))
    read: list[Any] = []
    original = uproot.models.RNTuple.Model_ROOT_3a3a_RNTuple.read_page

    def recorded(self: Any, *arguments: Any) -> None:
        read.append(arguments[1:4])
        original(self, *arguments)

    monkeypatch.setattr(uproot.models.RNTuple.Model_ROOT_3a3a_RNTuple, "read_page", recorded)
    for start in range(40, 80, 5):
        with open_source(path) as source:
            source.read(["jet_index"], start, start + 5)
    assert len(read) == 1, "all rows are in one cluster"
    assert len(Unpacked.of(path)) == 1
    write_ntuple(path, {name: column[::-1] for name, column in columns.items()})
    with open_source(path) as source:
        assert source.read(["jet_index"], 40, 41)["jet_index"].tolist() == [59], "the file is another one now"


@pytest.mark.parametrize("wrong", [False, True])
def test_checksums_of_pages_are_compared(wrong: bool) -> None:
    page = b"numbers of a page, packed"
    checksum = xxhash.xxh3_64_intdigest(page).to_bytes(8, "little")
    content = np.frombuffer(b"header" + (page.upper() if wrong else page) + checksum + b"other pages", dtype=np.uint8)
    described = SimpleNamespace(has_checksum=True, locator=SimpleNamespace(offset=6, num_bytes=len(page)))
    without = SimpleNamespace(has_checksum=False, locator=None)
    done: list[npt.NDArray[Any]] = []
    opened = SimpleNamespace(
        page_link_list=[[SimpleNamespace(pages=[described, without])]],
        file=SimpleNamespace(source=SimpleNamespace(chunk=lambda a, b: SimpleNamespace(raw_data=content[a:b]))),
        read_page=lambda destination, *_: done.append(destination),
    )
    found = checked(opened)
    found.read_page(np.empty(1), 0, 0, 1, "metadata")
    if wrong:
        with pytest.raises(ValueError, match="the checksum of a page of column 0 is wrong"):
            found.read_page(np.empty(1), 0, 0, 0, "metadata")
    else:
        found.read_page(np.empty(1), 0, 0, 0, "metadata")
    assert len(done) == 2 - wrong


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with two cycles of an RNTuple, a tree in a folder, and other things."""
    path = tmp_path_factory.mktemp("mixed") / "mixed.root"
    with uproot.recreate(path) as file:
        file["Events"] = {"x": np.arange(3.0)}
        file.mktree("folder/deep/jets", {"x": "f8"}).extend({"x": np.arange(4.0)})
        file.mkrntuple("folder/other", {"x": np.arange(5.0)})
        file["cuts"] = np.histogram([1, 2, 3])
        file["note"] = "text"
    with uproot.update(path) as file:
        file["Events"] = {"x": np.arange(6.0)}
    return path


@pytest.mark.parametrize(
    ("treename", "rows"),
    [("Events", 6), ("Events;1", 3), ("Events;2", 6), ("folder/deep/jets", 4), ("/folder/other", 5)],
)
def test_folders_and_cycles(mixed: Path, treename: str, rows: int) -> None:
    with open_source(mixed, treename) as source:
        assert source.read(["x"], 0, rows)["x"].tolist() == list(range(rows))
        assert source.row_count == rows


@pytest.mark.parametrize(
    ("treename", "message"),
    [
        ("jets", r"has no tree 'jets'; it holds Events;1 \(RNTuple\), .*folder/deep/jets \(TTree\)"),
        ("Events;7", r"has no tree 'Events;7'; it holds .*note \(TObjString\)"),
        ("cuts", r"cuts is no tree but a TH1D; the file holds Events"),
        (None, r"must hold one tree; it holds Events;1 \(RNTuple\), .*name the tree by treename"),
    ],
)
def test_a_message_says_what_the_file_holds(mixed: Path, treename: str | None, message: str) -> None:
    with pytest.raises(DataError, match=message), open_source(mixed, treename):
        pass


def test_files_without_trees_and_with_many_things(tmp_path: Path) -> None:
    path = tmp_path / "other.root"
    with uproot.recreate(path) as file:
        pass
    with pytest.raises(DataError, match="must hold one tree; it holds nothing; name"), open_source(path):
        pass
    with uproot.recreate(path) as file:
        for number in range(20):
            file[f"h{number:02}"] = np.histogram([1, 2, 3])
        file.mktree("late", {"x": "f8"}).extend({"x": np.arange(4.0)})
    with (
        pytest.raises(DataError, match=r"no tree 'a'; it holds late \(TTree\), h00 \(TH1D\), .* and 15 more; correct"),
        open_source(path, "a"),
    ):
        pass
    with open_source(path) as source:
        assert source.row_count == 4
