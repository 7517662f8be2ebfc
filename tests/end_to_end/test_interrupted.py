"""Trainings of the command that were interrupted: what is left, what goes on, what is refused."""

import os
import pty
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from phaze_ee.cli import main
from phaze_ee.models.checkpoint import load_checkpoint
from phaze_ee.results.training import TrainingHistory
from phaze_ee.training.module import TaggerModule
from phaze_ee.training.resume import ResumePoint, find_resume_point
from phaze_ee.workspace import Project
from tests.end_to_end import dying
from tests.end_to_end.command import digest, fails
from tests.end_to_end.dying import TRAIN
from tests.modes.two_class_project import make_project, write_jets

Capture = pytest.CaptureFixture[str]
LINES = ("c.epochs = 3", "c.zero_epochs = 1", "c.seed = 5", "c.tensorboard = False", "c.resume_interval = 2")
EPOCHS = 3


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    return tmp_path


@pytest.fixture
def project(folder: Path) -> Project:
    return make_project(folder, *LINES)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output folder of the same training that nothing interrupts."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHAZE_EE_WORKSPACES", str(folder / "workspaces"))
        make_project(folder, *LINES)
        assert main(TRAIN) == 0
    (folder / "workspaces" / "Tops" / "small").rename(folder / "small")
    return folder / "small" / "output"


def assert_same(project: Project, expected: Path) -> None:
    """Compare with the training that nothing interrupted; nothing temporary is left, nor a state."""
    for name in ("latest_model.pt", "best_model.pt"):
        found, wanted = (load_checkpoint(path / name) for path in (project.models, expected / "models"))
        assert found.epoch == wanted.epoch
        weights = wanted.tagger.state_dict()
        assert all(torch.equal(value, weights[key]) for key, value in found.tagger.state_dict().items())
    assert {path.name for path in project.models.glob("*")} == {path.name for path in (expected / "models").glob("*")}
    history, other = (
        TrainingHistory.read(path, "train")
        for path in (project.training_history, expected / "results" / "training_history.json")
    )
    assert [epoch.val_loss for epoch in history.epochs] == [epoch.val_loss for epoch in other.epochs]


def state(project: Project) -> ResumePoint | None:
    return find_resume_point(project.resume_point)


def interrupt(project: Project, batch: int = 5) -> None:
    """Let the system take the node away after a batch (of 9)."""
    with pytest.MonkeyPatch.context() as patch:
        dying.at_call(patch, TaggerModule, "training_step", batch, dying.terminate)
        assert main(TRAIN) == 85


def configure(project: Project, line: str) -> None:
    with project.config.open("a", encoding="utf-8") as file:
        file.write(f"    {line}\n")


@contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    before = digest(folder)
    yield
    assert digest(folder) == before


@pytest.mark.parametrize("place", dying.KILLS)
def test_killed(project: Project, uninterrupted: Path, capsys: Capture, place: str) -> None:
    assert dying.killed_training(place, project.workspace_root.parent) == -signal.SIGKILL
    first = place in ("before the first state", "amid the first state")
    assert (state(project) is None) == first
    capsys.readouterr()
    assert main(TRAIN) == 0
    assert ("Resuming from" in capsys.readouterr().out) != first
    assert_same(project, uninterrupted)


@pytest.mark.parametrize(
    ("name", "number"), [("resume.ckpt", 1), ("resume.ckpt", 3), ("latest_model.pt", 2), ("best_model.pt", 1)]
)
def test_a_disk_that_fills_up(project: Project, uninterrupted: Path, capsys: Capture, name: str, number: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        before: dict[str, str] = {}

        def fill() -> None:
            before.update(digest(project.models))
            dying.full_disk()

        dying.amid_write(patch, name.split(".")[0], number, fill)
        text = fails(capsys, 1, *TRAIN)
    remedy = "free space or check permissions, then run again"
    assert text == f"cannot write {project.models / name}: No space left on device; {remedy}"
    after = digest(project.models)
    half = {path for path in before if path.startswith(f".{name.split('.')[0]}.")}
    assert len(half) == 1
    assert {path: value for path, value in before.items() if path not in half and not path.startswith("train.")} == {
        path: value for path, value in after.items() if not path.startswith("train.")
    }
    assert main(TRAIN) == 0
    assert_same(project, uninterrupted)


def test_an_earlier_model_set_aside_is_not_lost_to_a_kill(project: Project) -> None:
    configure(project, "c.zero_epochs = 0")
    assert main(TRAIN) == 0
    earlier = project.best_model.read_bytes()
    configure(project, "c.seed = 6")
    assert dying.killed_training("after the first models", project.workspace_root.parent) == -signal.SIGKILL
    aside = project.models / "previous" / "best_model.pt"
    assert aside.read_bytes() == earlier
    assert project.best_model.read_bytes() != earlier
    assert main(TRAIN) == 0
    assert aside.read_bytes() == earlier


def test_after_a_training_the_next_starts_anew(project: Project, uninterrupted: Path, capsys: Capture) -> None:
    assert main(TRAIN) == 0
    assert state(project) is None
    capsys.readouterr()
    assert main(TRAIN) == 0
    assert "Going on" not in capsys.readouterr().out
    assert len(TrainingHistory.read(project.training_history, "train").epochs) == EPOCHS


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("c.lr = 0.5", "lr was 0.002, now 0.5"),
        ("c.epochs = 4", "epochs was 3, now 4"),
        ("c.beta_max = [1.0]; c.exit_stages = [0]", "beta_max was [1.0, 1.0], now [1.0]; exit_stages was"),
    ],
)
def test_a_changed_option_is_named(project: Project, capsys: Capture, line: str, expected: str) -> None:
    interrupt(project)
    configure(project, line)
    with unchanged(project.root):
        text = fails(capsys, 2, *TRAIN)
    assert text.startswith(f"{project.config}: changed since the training was interrupted: ")
    assert expected in text
    assert text.endswith("undo that, or start again with --fresh")


def test_changed_files_and_data_config_are_named(project: Project, folder: Path, capsys: Capture) -> None:
    interrupt(project)
    yaml = folder / "two_classes.yaml"
    before = yaml.read_text()
    yaml.write_text(before.replace("observers: [jet_id]", "selection: p_pt[:, 0] > -9"))
    with unchanged(project.root):
        assert "interrupted: the data files" in fails(capsys, 2, *TRAIN)
    yaml.write_text(before)
    write_jets(folder / "val.root", np.arange(40) % 2)
    with unchanged(project.root):
        assert "interrupted: the data files" in fails(capsys, 2, *TRAIN)


def test_what_does_not_matter_may_change(project: Project, uninterrupted: Path) -> None:
    interrupt(project)
    configure(project, "c.test_files = c.val_files")
    configure(project, "c.log_interval = 7")
    assert main(TRAIN) == 0
    assert_same(project, uninterrupted)


def test_fresh_asks_and_needs_somebody_to_ask(project: Project, uninterrupted: Path, capsys: Capture) -> None:
    assert main([*TRAIN, "--fresh"]) == 0, "nothing to discard, nothing to ask"
    interrupt(project)
    with unchanged(project.root), Path(os.devnull).open() as nobody, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", nobody)
        text = fails(capsys, 2, *TRAIN, "--fresh")
    assert text == (
        "--fresh would discard the interrupted training of Tops/small (epoch 2, batch 3), and there is no terminal to "
        "ask in; add --yes"
    )
    assert main([*TRAIN, "--fresh", "--yes"]) == 0
    assert "Going on" not in capsys.readouterr().out
    assert_same_weights(project, uninterrupted)


def assert_same_weights(project: Project, expected: Path) -> None:
    found, wanted = (load_checkpoint(path / "best_model.pt") for path in (project.models, expected / "models"))
    weights = wanted.tagger.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in found.tagger.state_dict().items())


@pytest.mark.parametrize(("answer", "status"), [("n", 2), ("y", 0)])
def test_fresh_heeds_the_answer_at_a_terminal(
    project: Project, capsys: Capture, monkeypatch: pytest.MonkeyPatch, answer: str, status: int
) -> None:
    interrupt(project)
    before = digest(project.models)
    us, terminal = pty.openpty()
    with os.fdopen(terminal, "r") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        os.write(us, f"{answer}\n".encode())
        capsys.readouterr()
        assert main([*TRAIN, "--fresh"]) == status
    os.close(us)
    printed = capsys.readouterr()
    assert "Discard the interrupted training of Tops/small (epoch 2, batch 3)?" in " ".join(printed.out.split())
    if status:
        assert "nothing was changed; without --fresh, the training of Tops/small resumes" in printed.err
        assert digest(project.models) == before
    else:
        assert "Going on" not in printed.out
        assert state(project) is None


def test_a_second_training_is_refused_while_one_runs(project: Project, capsys: Capture) -> None:
    process = dying.running_training(project.workspace_root.parent)
    try:
        text = fails(capsys, 2, *TRAIN)
    finally:
        process.kill()
        process.join()
    assert re.fullmatch(
        rf"{project.models} is in use by another training \(process {process.pid} on {socket.gethostname()}\); .*", text
    )
    assert main(TRAIN) == 0, "a killed training holds nothing"


class _BackwardsClock:
    """A wall clock that somebody sets back an hour whenever it is looked at."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        self.now -= 3600
        return self.now


def test_clocks_that_go_backwards(
    project: Project, folder: Path, uninterrupted: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = 2**31  # in 2038: every file is newer than any clock says
    monkeypatch.setattr(time, "time", _BackwardsClock())
    for path in (folder / "val.root", folder / "two_classes.yaml", project.config):
        os.utime(path, (far, far))
    interrupt(project)
    for path in project.models.iterdir():
        os.utime(path, (far, far))
    assert main(TRAIN) == 0
    assert "Resuming from" in capsys.readouterr().out
    assert_same(project, uninterrupted)
    assert main(["-m", "convert", "-p", "Tops", "small"]) == 0
    capsys.readouterr()
    assert main(TRAIN) == 0
    assert capsys.readouterr().out.count("Cache: ") == 2
