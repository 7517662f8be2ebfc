"""Measures training on one and two processes, and its memory with more data.

python benchmarks/scaling.py CONFIG.yaml FILE.root … [--processes 1 2] [--copies 1 10]

A small ParticleNet with three exits trains on the CPU from the cache, with 64 jets per step in total and one thread per
process, for two epochs of 150 steps; the faster one counts. With --copies, each file gets this number of names. "x" is
relative to one process on the same jets. Nothing else should run on the machine: processes share its memory and caches.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from rich.console import Console
from rich.table import Table

from benchmarks.projects import made
from phaze_ee.modes import convert
from phaze_ee.modes.request import Request
from phaze_ee.modes.session import Session
from phaze_ee.results.training import TrainingHistory
from phaze_ee.workspace import Project

JETS_PER_STEP, STEPS, EPOCHS = 64, 150, 2
OPTIONS = {
    "conv_params": [(8, (16, 16, 16)), (8, (32, 32, 32)), (8, (64, 64, 64))],
    "fc_params": [(64, 0.1)],
    "exit_stages": [0, 1, 2],
    "beta_max": 1.0,
    "steps_per_epoch": STEPS,
    "epochs": EPOCHS,
    "zero_epochs": 0,
    "num_workers": 1,
    "tensorboard": False,
    "seed": 1,
    "device": "cpu",
}


def trained(project: Project, processes: int) -> tuple[float, float, float]:
    """Return jets/s of all processes, the time of the whole command (s), and the memory of its largest process (MB)."""
    launcher = ["torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", "-m"] if processes > 1 else []
    command = [*launcher, "phaze_ee", "-m", "train", "-p", project.workspace, project.name]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    begin = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", *command], env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - begin
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"the training ended with status {child.returncode}")
    epochs = TrainingHistory.read(project.training_history, made_by="train").epochs
    return processes * max(epoch.jets_per_second for epoch in epochs), seconds, usage.ru_maxrss * 1.024e-3


def project_of(name: str, config: Path, files: list[Path], processes: int) -> Project:
    values = {
        **OPTIONS,
        "data_config": str(config.absolute()),
        "train_files": [str(path) for path in files],
        "val_files": [str(files[0])],
        "cache_folder": str(Path(os.environ["PHAZE_EE_WORKSPACES"]) / "caches"),
        "batch_size": JETS_PER_STEP // processes,
        "use_ddp": processes > 1,
    }
    project = made("scaling", name, values)
    convert.run(Session.open(Request("convert", "scaling", name, yes=True)))
    return project


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--copies", type=int, nargs="+", default=[1, 10])
    arguments = parser.parse_args()
    columns = ("files", "processes", "jets/s of all", "x", "seconds, whole command", "largest process, MB")
    table = Table(*columns, title=f"{JETS_PER_STEP} jets a step in all, CPU")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PHAZE_EE_WORKSPACES"] = folder
        for copies in arguments.copies:
            files = [Path(folder) / f"{copy}_{path.name}" for copy in range(copies) for path in arguments.files]
            for number, link in enumerate(files):
                link.unlink(missing_ok=True)
                link.symlink_to(arguments.files[number % len(arguments.files)].absolute())
            reference = 0.0
            for processes in arguments.processes:
                speed, seconds, memory = trained(
                    project_of(f"c{copies}_p{processes}", arguments.config, files, processes), processes
                )
                reference = reference or speed
                cells = (f"{speed:,.0f}", f"{speed / reference:.2f}", f"{seconds:.0f}", f"{memory:,.0f}")
                table.add_row(f"{len(files)}", str(processes), *cells)
    Console(width=80).print(table)


if __name__ == "__main__":
    main()
