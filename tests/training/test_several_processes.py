"""Trainings of two processes on the CPU: the same curve as one process, and what happens when one dies."""

import os
import signal
import socket
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from phaze_ee.results.training import EpochRecord, TrainingHistory
from tests.training.interrupted import BATCHES
from tests.training.test_resume import finish, start, wait_for_step

PROCESSES = 2
TOGETHER = {"use_ddp": True, "optimizer": "adamw", "lr": 0.001}


def start_both(folder: Path, second: dict[str, str] | None = None) -> list[BaseProcess]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "WORLD_SIZE": str(PROCESSES),
        "LOCAL_WORLD_SIZE": str(PROCESSES),
        "GROUP_WORLD_SIZE": "1",
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
    }
    ranks = [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(PROCESSES)]
    ranks[1].update(second or {})
    return [start(folder, TOGETHER, environment) for environment in ranks]


def epochs(folder: Path) -> list[EpochRecord]:
    return TrainingHistory.read(folder / "history.json", "train").epochs


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("together")
    assert [finish(process) for process in start_both(folder)] == [0, 0]
    return folder


def test_the_same_batches_give_the_same_curve_on_one_and_two_processes(tmp_path: Path, together: Path) -> None:
    alone = tmp_path / "alone"
    assert finish(start(alone, TOGETHER)) == 0
    for one, two in zip(epochs(alone), epochs(together), strict=True):
        assert two.train_loss == pytest.approx(one.train_loss, abs=1e-4)
        assert two.val_loss == pytest.approx(one.val_loss, abs=1e-4)
        assert two.train_accuracy == pytest.approx(one.train_accuracy)
        assert two.val_accuracy == pytest.approx(one.val_accuracy)


def test_only_the_first_process_writes(together: Path) -> None:
    assert sorted(path.name for path in (together / "models").iterdir()) == ["best_model.pt", "latest_model.pt"]


def test_one_that_dies_stops_the_other_with_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "dying"
    processes = start_both(folder)
    wait_for_step(folder, processes[0], BATCHES)
    assert processes[1].pid is not None
    os.kill(processes[1].pid, signal.SIGKILL)
    assert finish(processes[0]) == 1
    message = (folder / "error0").read_text()
    assert message.startswith("process 0 lost another process of this training")
    assert "\n" not in message


def test_after_a_process_died_both_go_on(tmp_path: Path, together: Path) -> None:
    folder = tmp_path / "again"
    processes = start_both(folder)
    wait_for_step(folder, processes[0], BATCHES + 2)
    for process in processes:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    assert [finish(process) for process in start_both(folder)] == [0, 0]
    assert [record.val_loss for record in epochs(folder)] == [record.val_loss for record in epochs(together)]


def test_a_signal_to_one_in_the_validation_stops_both(tmp_path: Path, together: Path) -> None:
    folder = tmp_path / "stopped"
    processes = start_both(folder, {"STOPPED_IN_VALIDATION": "yes"})
    assert [finish(process) for process in processes] == [85, 85]
    assert "stopped by a signal to another process" in (folder / "error0").read_text()
    assert "stopped by SIGTERM" in (folder / "error1").read_text()
    assert [finish(process) for process in start_both(folder)] == [0, 0]
    assert [record.val_loss for record in epochs(folder)] == [record.val_loss for record in epochs(together)]
