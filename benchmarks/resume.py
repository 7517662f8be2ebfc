"""Measures what saving states costs, how long resuming takes, and whether it changes the weights.

python benchmarks/resume.py [--kills 20]

The state is that of the default ParticleNet (full size, exits, Ranger) on the bundled jets, CPU, batches of 64. Its
share of the training time is computed from the times of a state and of a step. Kills are SIGKILLs at random moments of
the small training that the tests use. Times to resume are for this training, and for the command on a small project.
"""

import argparse
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.projects import made
from phaze_ee.modes.request import Request
from phaze_ee.modes.session import Session
from phaze_ee.modes.train import run as run_train
from phaze_ee.training.callbacks import History
from phaze_ee.training.resume import ResumePoints
from tests.training.interrupted import BATCHES, EPOCHS
from tests.training.test_resume import finish, start, steps, wait_for_step, weights

INTERVALS = (50, 500, 5000)
JETS_PER_STEP = 64
SMALL = {"train_files": ["sample_jets/val/*.root"], "epochs": 500, "resume_interval": 1, "seed": 1, "device": "cpu"}
# Enough steps to measure their time, with the network of default size.
LARGE = {
    "train_files": ["sample_jets/val/*.root"],
    "val_files": ["sample_jets/val/HToBB*.root"],
    "conv_params": [(16, (64, 64, 64)), (16, (128, 128, 128)), (16, (256, 256, 256))],
    "fc_params": [(256, 0.1)],
    "steps_per_epoch": 8,
    "epochs": 1,
    "resume_interval": 2,
    "device": "cpu",
}


def state() -> tuple[float, float, float]:
    """Return time (s) and size (MB) of a state, and the time of a step (s)."""
    seconds: list[float] = []
    sizes: list[int] = []
    in_epoch: list[float] = []
    save, record = ResumePoints._save, History.on_train_epoch_end

    def timed(self: ResumePoints, trainer: Any, epoch: int, batch: int) -> None:
        begin = time.perf_counter()
        save(self, trainer, epoch, batch)
        seconds.append(time.perf_counter() - begin)
        sizes.append(self.path.stat().st_size)

    def recorded(self: History, *arguments: Any) -> None:
        in_epoch.append(self._train_seconds)
        record(self, *arguments)

    ResumePoints._save, History.on_train_epoch_end = timed, recorded  # type: ignore[method-assign, assignment]
    try:
        run_train(Session.open(Request("train", "resume", made("resume", "large", LARGE).name)))
    finally:
        ResumePoints._save, History.on_train_epoch_end = save, record  # type: ignore[method-assign]
    step = (in_epoch[0] - sum(seconds[:-1])) / LARGE["steps_per_epoch"]  # type: ignore[operator]
    return statistics.median(seconds), max(sizes) / 1e6, step


def killed(folder: Path, kills: int) -> tuple[int, float, bool]:
    """Kill a training repeatedly; return how often, the median time to a new step (s), and if weights are equal."""
    assert finish(start(folder / "whole")) == 0
    dice, waits, done = random.Random(1), list[float](), 0
    while done < kills:
        before = steps(folder / "killed")
        begin = time.perf_counter()
        process = start(folder / "killed")
        wait_for_step(folder / "killed", process, before + 1)
        waits.append(time.perf_counter() - begin)
        time.sleep(dice.uniform(0, 0.05))
        if not process.is_alive() or process.pid is None or steps(folder / "killed") >= EPOCHS * BATCHES - 2:
            finish(process)
            break
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        done += 1
    assert finish(start(folder / "killed")) == 0
    found, wanted = weights(folder / "killed"), weights(folder / "whole")
    return done, statistics.median(waits), all(torch.equal(found[name], wanted[name]) for name in wanted)


def command_goes_on() -> float:
    """Return the time in seconds from the kill of a command to the first state of the next."""
    small = made("resume", "small", SMALL)
    command = [sys.executable, "-m", "phaze_ee", "-m", "train", "-p", "resume", "small"]
    begin = 0.0
    for _ in range(2):
        before = small.resume_point.stat().st_mtime_ns if small.resume_point.is_file() else None
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not small.resume_point.is_file() or small.resume_point.stat().st_mtime_ns == before:
            assert process.poll() is None
            time.sleep(0.01)
        found = time.perf_counter() - begin
        begin = time.perf_counter()
        process.kill()
        process.wait()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    kills = parser.parse_args().kills
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PHAZE_EE_WORKSPACES"] = folder
        seconds, size, step = state()
        done, wait, equal = killed(Path(folder), kills)
        again = command_goes_on()
    table = Table("", "", title="Going on after an interruption, CPU")
    table.add_row("a state, default ParticleNet", f"{seconds:.2f} s, {size:.1f} MB")
    table.add_row(f"a step of it, {JETS_PER_STEP} jets", f"{step:.2f} s")
    for interval in INTERVALS:
        share = seconds / (seconds + interval * step)
        table.add_row(f"share of the training at resume_interval = {interval}", f"{100 * share:.3f} %")
    table.add_row("kill to next step, process with everything imported", f"{wait:.1f} s")
    table.add_row("kill to next step and its state, the command", f"{again:.1f} s")
    table.add_row(f"weights after {done} kills and none", "equal bit for bit" if equal else "DIFFERENT")
    Console().print(table)
    sys.exit(0 if equal else 1)


if __name__ == "__main__":
    main()
