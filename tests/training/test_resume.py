"""Trainings that are killed at random points and go on, against one that was never interrupted."""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from torch import Tensor

from phaze_ee.errors import PreemptedError, RunError
from phaze_ee.models.checkpoint import load_checkpoint
from phaze_ee.results.training import TrainingHistory
from phaze_ee.training.module import TaggerModule
from phaze_ee.training.resume import PROCESSES, ResumePoints, find_resume_point, previous
from tests.training.interrupted import BATCHES, EPOCHS, Crash, before_step, crash, interrupt, run, stop, work

KILLS = 20
LIMIT = 120.0  # seconds

# Children start from a process in which everything is imported, and without the threads of this one.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.training.interrupted"])


def start(
    folder: Path, changes: dict[str, Any] | None = None, environment: dict[str, str] | None = None
) -> BaseProcess:
    folder.mkdir(exist_ok=True)
    process = CONTEXT.Process(target=work, args=(folder, changes or {}, environment or {}))
    process.start()
    return process


def steps(folder: Path) -> int:
    progress = folder / "progress"
    text = progress.read_text() if progress.is_file() else ""
    return int(text) if text else -1


def wait_for_step(folder: Path, process: BaseProcess, step: int) -> None:
    limit = time.monotonic() + LIMIT
    while steps(folder) < step and process.is_alive():
        assert time.monotonic() < limit
        time.sleep(0.002)


def finish(process: BaseProcess) -> int | None:
    process.join(LIMIT)
    assert not process.is_alive()
    return process.exitcode


def weights(folder: Path, name: str = "latest_model.pt") -> dict[str, Tensor]:
    return load_checkpoint(folder / "models" / name).tagger.state_dict()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert finish(start(folder)) == 0
    return folder


def assert_same(folder: Path, expected: Path) -> None:
    for name in ("latest_model.pt", "best_model.pt"):
        found, wanted = (
            torch.load(each / "models" / name, weights_only=True)["metrics"] for each in (folder, expected)
        )
        assert found == pytest.approx(wanted, rel=1e-5)
        own, other = weights(folder, name), weights(expected, name)
        assert own.keys() == other.keys()
        assert all(torch.equal(own[key], other[key]) for key in other)
    histories = [TrainingHistory.read(each / "history.json", "train").epochs for each in (folder, expected)]
    assert [epoch.val_accuracy for epoch in histories[0]] == [epoch.val_accuracy for epoch in histories[1]]
    for found, wanted in zip(*histories, strict=True):  # of whole epochs, whatever part came after the interruption
        assert found.train_total_loss == pytest.approx(wanted.train_total_loss, rel=1e-5)
        assert found.train_loss == pytest.approx(wanted.train_loss, rel=1e-5)
    assert find_resume_point(folder / "resume.ckpt") is None


def test_a_training_killed_twenty_times_ends_with_the_same_weights(tmp_path: Path, uninterrupted: Path) -> None:
    folder, dice = tmp_path / "killed", random.Random(1)
    kills = 0
    while kills < KILLS:
        process = start(folder)
        wait_for_step(folder, process, min(steps(folder) + dice.choice([0, 1, 1, 2]), EPOCHS * BATCHES - 2))
        time.sleep(dice.uniform(0, 0.05))  # in a step, in the validation, while a state is written …
        if not process.is_alive():
            break
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kills += 1
    assert kills >= KILLS / 2
    assert finish(start(folder)) == 0
    assert_same(folder, uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_node_that_is_taken_away_loses_no_step(tmp_path: Path, uninterrupted: Path, number: signal.Signals) -> None:
    folder = tmp_path / "preempted"
    process = start(folder, {"resume_interval": 0})
    wait_for_step(folder, process, BATCHES + 1)
    assert process.pid is not None
    os.kill(process.pid, number)
    assert finish(process) == 85
    assert f"stopped by {number.name}" in (folder / "error").read_text()
    point = find_resume_point(folder / "resume.ckpt")
    assert point is not None
    assert point.epoch * BATCHES + point.batch >= BATCHES + 1
    assert finish(start(folder, {"resume_interval": 0})) == 0
    assert_same(folder, uninterrupted)


def test_a_state_that_is_cut_short_gives_way_to_the_one_before(
    tmp_path: Path, uninterrupted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "cut"
    process = start(folder)
    wait_for_step(folder, process, 2 * BATCHES + 1)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    path = folder / "resume.ckpt"
    assert previous(path).is_file()
    path.write_bytes(path.read_bytes()[:1000])
    point = find_resume_point(path)
    assert point is not None
    assert point.path == previous(path)
    assert "cannot be read" in caplog.text
    assert finish(start(folder)) == 0
    assert_same(folder, uninterrupted)


def test_without_states_a_training_starts_anew(tmp_path: Path) -> None:
    assert find_resume_point(tmp_path / "resume.ckpt") is None
    run(tmp_path / "new", {"epochs": 1})
    assert not (tmp_path / "new" / "resume.ckpt").exists()


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    process = start(folder)
    wait_for_step(folder, process, BATCHES + 3)
    process.kill()
    process.join()
    return folder


def _done(content: dict[str, Any]) -> None:
    done = dict.fromkeys(("ready", "started", "processed", "completed"), BATCHES)
    content["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"] = done


def _short_buffer(content: dict[str, Any]) -> None:
    content["optimizer_states"][0]["param_groups"][0]["buffer"] = [[None, None]] * 10


def _other_settings(content: dict[str, Any]) -> None:
    del content["optimizer_states"][0]["param_groups"][0]["betas"]


def _random_numbers(content: dict[str, Any]) -> None:
    content["phaze_ee"]["random"][0]["numpy"] = torch.full((8, 8), torch.nan)


def _earlier_files(content: dict[str, Any]) -> None:
    own = next(state for state in content["callbacks"].values() if "_earlier" in state)
    own["_earlier"] = 255


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (_earlier_files, "_earlier Input should be a valid dictionary"),
        (_random_numbers, "only integer tensors of a single element can be converted to an index"),
        (_done, "says this epoch was validated, and has no accuracies of it"),
        (_short_buffer, "its settings of the optimiser are not those of this optimiser"),
        (_other_settings, "its settings of the optimiser are not those of this optimiser"),
    ],
)
def test_a_state_that_training_cannot_go_on_from(
    change: Callable[[dict[str, Any]], None], problem: str, killed: Path, tmp_path: Path
) -> None:
    content = torch.load(killed / "resume.ckpt", weights_only=True)
    change(content)
    torch.save(content, tmp_path / "resume.ckpt")
    assert finish(start(tmp_path)) in (1, 2)
    assert problem in (tmp_path / "error").read_text()


def test_groups_of_an_optimiser_that_are_no_list_are_noticed_at_once(killed: Path, tmp_path: Path) -> None:
    content = torch.load(killed / "resume.ckpt", weights_only=True)
    content["optimizer_states"][0]["param_groups"] = torch.zeros(2)
    torch.save(content, tmp_path / "resume.ckpt")
    assert find_resume_point(killed / "resume.ckpt") is not None
    assert find_resume_point(tmp_path / "resume.ckpt") is None


def test_a_state_without_a_number_of_processes_has_that_of_its_random_states(killed: Path, tmp_path: Path) -> None:
    content = torch.load(killed / "resume.ckpt", weights_only=True)
    own = content["phaze_ee"]
    assert own["run"].pop(PROCESSES) == 1
    own["random"] *= 2
    torch.save(content, tmp_path / "resume.ckpt")
    point = find_resume_point(tmp_path / "resume.ckpt")
    assert point is not None
    assert point.run[PROCESSES] == 2


@pytest.mark.parametrize(("act", "ended", "batch"), [(stop, PreemptedError, 4), (crash, Crash, 2)])
def test_gradients_of_a_group_of_batches_are_not_lost(
    act: Callable[[TaggerModule], None],
    ended: type[Exception],
    batch: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes = {"accumulate_batches": 2, "resume_interval": 1 if act is crash else 3, "epochs": 2}
    run(tmp_path / "whole", changes)
    before_step(monkeypatch, "training_step", 1, 3 if act is crash else 2, act)
    with pytest.raises(ended):
        run(tmp_path / "stopped", changes)
    point = find_resume_point(tmp_path / "stopped" / "resume.ckpt")
    assert point is not None
    assert (point.epoch, point.batch) == (1, batch)
    run(tmp_path / "stopped", changes)
    assert_same(tmp_path / "stopped", tmp_path / "whole")


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_averaged_weights_go_on_in_either_phase_of_disjoint(
    epoch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {
        "training_regime": "disjoint",
        "exit_loss_strategy": "target_detached",
        "zero_epochs": 2,
        "ema_decay": 0.9,
        "optimizer": "adamw",
    }
    run(tmp_path / "whole", changes)
    before_step(monkeypatch, "training_step", epoch, 0 if epoch == 2 else 3, crash)
    with pytest.raises(Crash):
        run(tmp_path / "stopped", changes)
    run(tmp_path / "stopped", changes)
    assert_same(tmp_path / "stopped", tmp_path / "whole")


def test_ctrl_c_leaves_the_averaged_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before_step(monkeypatch, "training_step", 1, 2, interrupt)
    with pytest.raises(RunError, match="interrupted in epoch 2"):
        run(tmp_path, {"ema_decay": 0.9})
    # Lightning keeps the average as the state of the module, and what is trained beside it.
    averaged = torch.load(tmp_path / "resume.ckpt", weights_only=True)["state_dict"]
    for name, value in weights(tmp_path).items():
        assert torch.equal(averaged[f"tagger.{name}"], value), name


def test_ctrl_c_in_the_validation_leaves_the_weights_that_are_validated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"ema_decay": 0.9, "save_interval": 1}
    run(tmp_path / "whole", changes)
    before_step(monkeypatch, "validation_step", 1, 0, interrupt)
    with pytest.raises(RunError, match="interrupted in epoch 2"):
        run(tmp_path / "stopped", changes)
    expected = weights(tmp_path / "whole", "epoch_002.pt")
    for name, value in weights(tmp_path / "stopped").items():
        assert torch.equal(expected[name], value), name


def test_early_stopping_is_not_forgotten_with_the_last_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"early_stopping": 1, "zero_epochs": 0, "lr": 1e-12, "lr_schedule": "none"}
    run(tmp_path / "whole", changes)
    plain = ResumePoints._save

    def killed_at_the_end(points: ResumePoints, trainer: Trainer, epoch: int, batch: int, **keywords: bool) -> None:
        plain(points, trainer, epoch, batch, **keywords)
        if (epoch, batch) == (2, 0):
            raise Crash

    monkeypatch.setattr(ResumePoints, "_save", killed_at_the_end)
    with pytest.raises(Crash):
        run(tmp_path / "stopped", changes)
    run(tmp_path / "stopped", changes)
    assert len(TrainingHistory.read(tmp_path / "stopped" / "history.json", "train").epochs) == 2
    assert_same(tmp_path / "stopped", tmp_path / "whole")


@pytest.mark.parametrize(
    ("epoch", "changes"), [(0, {}), (1, {"ema_decay": 0.9, "accumulate_batches": 2}), (EPOCHS - 1, {})]
)
def test_a_signal_in_a_validation_loses_no_step(
    epoch: int, changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {**changes, "resume_interval": 0, "zero_epochs": 0}
    run(tmp_path / "whole", changes)
    before_step(monkeypatch, "validation_step", epoch, 0, stop)
    with pytest.raises(PreemptedError, match=r"continues from .*resume\.ckpt"):
        run(tmp_path / "stopped", changes)
    point = find_resume_point(tmp_path / "stopped" / "resume.ckpt")
    assert point is not None
    assert point.described == f"the validation of epoch {epoch + 1}"
    run(tmp_path / "stopped", changes)
    assert_same(tmp_path / "stopped", tmp_path / "whole")


def test_batches_that_were_skipped_before_a_stop_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def count_to_two(module: TaggerModule) -> None:
        module.bad_batches.count = 2
        stop(module)

    changes = {"skip_nan_batches": 3}
    before_step(monkeypatch, "training_step", 0, 1, count_to_two)
    with pytest.raises(PreemptedError):
        run(tmp_path, changes)
    counts = []
    before_step(monkeypatch, "training_step", 0, 3, lambda module: counts.append(module.bad_batches.count))
    run(tmp_path, changes)
    assert counts == [2]
