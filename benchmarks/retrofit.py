"""Measures how long mode retrofit takes on published weights, with and without stored features.

    python benchmarks/retrofit.py WEIGHTS.pt … --files "JETS/*.root" [--epochs 20]

The exits learn from the jets of --files and are evaluated on the 6,000 bundled ones. Without stored features, one epoch
is trained and its time is multiplied by the number of epochs. CPU times are given too: other work on the machine
changes them less than wall times.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from phaze_ee.config.template import render_retrofit
from phaze_ee.modes.new_project import create_project
from phaze_ee.modes.retrofit import network_options
from phaze_ee.results.training import TrainingHistory
from phaze_ee.workspace import Project

FEATURES = re.compile(r"for ([\d,]+) jets: ([\d.]+) GB, (\d+) s, computed once")
COLUMNS = ("jets", "GB", "features s", "heads s", "total s", "CPU s", "without", "ratio", "accuracy: exits, full")


@dataclass(frozen=True)
class Run:
    """One command: its times in seconds and its output."""

    wall: float
    cpu: float
    printed: str


def command(mode: str, project: Project) -> Run:
    start, before = time.perf_counter(), os.times()
    done = subprocess.run(
        [sys.executable, "-m", "phaze_ee", "-m", mode, "-p", project.workspace, project.name],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
        check=False,
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Run(time.perf_counter() - start, cpu, done.stdout)


def project_of(weights: Path, files: str, epochs: int, cache_gb: float) -> Project:
    jets = {"train_files": [files], "val_files": ["sample_jets/*/*.root"], "test_files": [], "device": "cpu"}
    network = {**network_options(weights), **jets, "init_from": str(weights.resolve()), "epochs": epochs}
    network |= {"feature_cache_gb": cache_gb, "calibration_share": 0.0}
    return create_project(Project(weights.stem, f"cache_{cache_gb:g}"), partial(render_retrofit, network=network))


def row(weights: Path, files: str, epochs: int) -> list[str]:
    project = project_of(weights, files, epochs, 20.0)
    whole = command("retrofit", project)
    history = TrainingHistory.read(project.training_history, made_by="retrofit").epochs
    once = command("train", project_of(weights, files, 1, 0.0))
    found = FEATURES.search(whole.printed)
    assert found is not None
    jets, size, seconds = found.groups()
    heads = sum(int(jets.replace(",", "")) / epoch.jets_per_second for epoch in history)
    return [
        jets,
        size,
        seconds,
        f"{heads:.0f}",
        f"{whole.wall:.0f}",
        f"{whole.cpu:.0f}",
        f"{once.cpu * epochs:,.0f}",
        f"{once.cpu * epochs / whole.cpu:.1f}",
        " ".join(f"{value:.3f}" for value in history[-1].val_accuracy or []),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, nargs="+")
    parser.add_argument("--files", required=True, help="pattern of the training files")
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    title = f"{arguments.epochs} epochs; 'without' stored features: CPU seconds, one epoch times {arguments.epochs}"
    table = Table("weights", *COLUMNS, title=title)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PHAZE_EE_WORKSPACES"] = folder
        for weights in arguments.weights:
            table.add_row(weights.stem, *row(weights, arguments.files, arguments.epochs))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
