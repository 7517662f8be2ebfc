"""Workspaces that cannot be written to."""

import ctypes
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tensorboard.summary.writer.record_writer import RecordWriter

from phaze_ee.cli import main
from phaze_ee.workspace import Project
from tests.end_to_end import dying
from tests.end_to_end.command import digest, fails
from tests.modes.two_class_project import make_project, save_best_model

Capture = pytest.CaptureFixture[str]
SMALL = ("-p", "Tops", "small")
_VERSION_3 = 0x20080522  # of Linux's capabilities
_OVERRIDE = 0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, with which root passes over permissions


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("process", ctypes.c_int)]


class _Capabilities(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


@contextmanager
def heeding_permissions() -> Iterator[None]:
    """Let permissions bind this process, also where root runs the tests."""
    if os.geteuid():
        yield
        return
    system = ctypes.CDLL(None, use_errno=True)
    header, own, reduced = _Header(_VERSION_3, 0), (_Capabilities * 2)(), (_Capabilities * 2)()
    for capabilities in (own, reduced):
        assert system.capget(ctypes.byref(header), capabilities) == 0
    reduced[0].effective &= ~_OVERRIDE
    assert system.capset(ctypes.byref(header), reduced) == 0
    try:
        yield
    finally:
        assert system.capset(ctypes.byref(header), own) == 0


@contextmanager
def read_only(root: Path) -> Iterator[None]:
    """Take the right to write away from a folder and everything below, and give it back."""
    modes = {path: path.stat().st_mode for path in [root, *root.rglob("*")]}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    try:
        with heeding_permissions():
            yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    project = make_project(
        tmp_path,
        "c.epochs = 1",
        "c.zero_epochs = 0",
        f"c.train_files = [{str(tmp_path / 'train.root')!r}]",
        f"c.calibration_files = [{str(tmp_path / 'calibration.root')!r}]",
        "c.epsilon = 0.4",
    )
    for name in ("train.root", "calibration.root"):
        shutil.copy(tmp_path / "val.root", tmp_path / name)
    save_best_model(project)
    project.results.mkdir()
    return project


MODES = (
    ("train",),
    ("convert",),
    ("evaluate",),
    ("benchmark",),
    ("calibrate",),
    ("place",),
    ("predict", "--files", "val.root"),
    ("sweep", "--set", "lr=0.1,0.2"),
)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode[0])
def test_a_read_only_workspace(
    project: Project, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, mode: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    before = digest(project.workspace_root)
    with read_only(project.workspace_root):
        text = fails(capsys, 1, "-m", mode[0], *SMALL, *mode[1:])
    assert "ermission denied" in text
    assert str(project.root) in text
    assert digest(project.workspace_root) == before


@pytest.mark.parametrize("mode", ["new_project", "demo"])
def test_a_new_project_in_a_read_only_workspace(project: Project, capsys: Capture, mode: str) -> None:
    before = digest(project.workspace_root)
    with read_only(project.workspace_root):
        text = fails(capsys, 1, "-m", mode, "-p", "Tops", "another")
    assert "ermission denied" in text
    assert digest(project.workspace_root) == before


@pytest.mark.parametrize("place", ["logs", "logs/train"])
def test_curves_for_tensorboard_that_cannot_be_written(project: Project, capsys: Capture, place: str) -> None:
    path = project.logs.parent / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("a file in the place of a folder")
    best = project.best_model.read_bytes()
    text = fails(capsys, 1, "-m", "train", *SMALL)
    assert "TensorBoard" in text
    assert str(project.logs / "train") in text
    assert text.endswith("free space or check permissions, or set c.tensorboard = False")
    assert project.best_model.read_bytes() == best
    assert not project.resume_point.exists(), "told before the training starts"
    assert not (project.models / "latest_model.pt").exists()


def test_a_disk_that_fills_up_under_the_curves(project: Project, capsys: Capture) -> None:
    with pytest.MonkeyPatch.context() as patch:
        dying.at_call(patch, RecordWriter, "write", 4, dying.full_disk)
        text = fails(capsys, 1, "-m", "train", *SMALL)
    assert text.startswith(
        f"cannot write curves for TensorBoard to {project.logs / 'train'}: No space left on device; "
    )
    assert main(["-m", "train", *SMALL]) == 0
