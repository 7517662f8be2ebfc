"""Files of root:// URLs, on a file system that stands for a server; and what is said where fsspec-xrootd is missing."""

import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from fsspec import AbstractFileSystem

from phaze_ee.data.files import expand_patterns, fingerprint
from phaze_ee.data.loaders import evaluation_loader, training_loader
from phaze_ee.data.remote import RemoteFile
from phaze_ee.data.sources import open_source
from phaze_ee.data.stamps import known_stamp
from phaze_ee.errors import DataError, UsageError
from phaze_ee.prediction.outputs import plan
from tests.data.small import jet_files, schema

HOST = "root://eos.example.org:1094"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Path]:
    """A folder whose files are those of the server."""
    folder = tmp_path / "server"
    (folder / "store").mkdir(parents=True)

    class Server(AbstractFileSystem):  # type: ignore[misc]
        protocol = "root"
        cachable = False

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return "/" + (path.partition("://")[2].partition("/")[2] if "://" in path else path).strip("/")

        def info(self, path: str, **_: Any) -> dict[str, Any]:
            found = folder / self._strip_protocol(path)[1:]
            kind = "directory" if found.is_dir() else "file"
            return {"name": path, "size": found.stat().st_size, "type": kind, "mtime": found.stat().st_mtime}

        def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
            names = [f"{path.rstrip('/')}/{one.name}" for one in (folder / path[1:]).iterdir()]
            return [self.info(name) for name in names] if detail else names

        def _open(self, path: str, *_: Any, **__: Any) -> Any:
            return (folder / path[1:]).open("rb")

    registered = sys.modules["fsspec.registry"]._registry
    fsspec.register_implementation("root", Server, clobber=True)
    yield folder
    registered.pop("root")


def test_patterns_on_a_server(server: Path) -> None:
    for name in ("b.root", "a.root", "c.txt"):
        (server / "store" / name).touch()
    found = expand_patterns("train_files", [f"{HOST}//store/*.root", f"QCD:{HOST}//store/c.txt"], None)
    assert [str(path) for path in found] == [f"{HOST}//store/{name}" for name in ("a.root", "b.root", "c.txt")]
    assert found[0].name == "a.root"
    assert found[0].suffix == ".root"
    with pytest.raises(UsageError, match=r"val_files: no file matches 'root://eos\.example\.org:1094//store/none\*'"):
        expand_patterns("val_files", [f"{HOST}//store/none*"], None)


def test_jets_of_a_server_are_those_of_the_files(server: Path, tmp_path: Path) -> None:
    local = jet_files(server / "store", [30, 17])
    remote = expand_patterns("train_files", [f"{HOST}//store/*.root"], None)
    for ours, theirs in zip(
        *(evaluation_loader(schema(), paths, batch_size=9) for paths in (local, remote)), strict=True
    ):
        assert torch.equal(ours.inputs.padded().features, theirs.inputs.padded().features)
    loader = training_loader(schema(), remote, batch_size=9, num_workers=0, seed=1)
    assert sum(len(batch) for batch in loader) == 47
    assert plan(remote, tmp_path, "root")[0].output == tmp_path / "jets_0.root"
    assert pickle.loads(pickle.dumps(remote)) == remote
    size, changed = known_stamp(remote[0])
    assert size == local[0].stat().st_size
    assert abs(changed - local[0].stat().st_mtime_ns) < 1000, "nanoseconds"


def test_a_file_that_changes_or_goes_away(server: Path) -> None:
    jet_files(server / "store", [10])
    remote = expand_patterns("train_files", [f"{HOST}//store/*.root"], None)
    before = fingerprint(remote, schema())
    assert before == fingerprint(remote, schema())
    os.utime(server / "store/jets_0.root", (1, 1))
    assert before != fingerprint(remote, schema())
    (server / "store/jets_0.root").write_bytes(b"no jets")
    with pytest.raises(DataError, match=r"cannot read root://eos\.example\.org:1094//store/jets_0\.root: "):
        list(evaluation_loader(schema(), remote, batch_size=4))
    (server / "store/jets_0.root").unlink()
    with pytest.raises(DataError, match=r"data file root://.*jets_0\.root does not exist \(any more\)"):
        list(evaluation_loader(schema(), remote, batch_size=4))


def test_other_formats_and_protocols_are_refused(server: Path) -> None:
    (server / "store/jets.parquet").touch()
    (path,) = expand_patterns("train_files", [f"{HOST}//store/jets.parquet"], None)
    with (
        pytest.raises(DataError, match=r"root://.*jets\.parquet: only ROOT files are read from root://; copy it"),
        open_source(path),
    ):
        pass
    with pytest.raises(UsageError, match=r"train_files: files of https:// cannot be read \(https://x\.org/a\.root\)"):
        expand_patterns("train_files", ["https://x.org/a.root"], None)


def test_without_the_extra_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(url: str) -> None:
        raise ImportError("Please install fsspec-xrootd to access root files")

    monkeypatch.setattr(fsspec.core, "url_to_fs", absent)
    with pytest.raises(UsageError) as caught:
        expand_patterns("train_files", [f"{HOST}//store/*.root"], None)
    assert str(caught.value) == (
        f"train_files: {HOST}//store/*.root is read through fsspec-xrootd, which is not installed; install it, "
        'in a checkout of PHAZE-EE: pip install ".[xrootd]" (or: uv sync --extra xrootd), or copy the file'
    )
    with pytest.raises(UsageError, match="is not installed"):
        known_stamp(RemoteFile.of_url(f"{HOST}//store/a.root"))
