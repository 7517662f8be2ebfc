"""What a person sees in a terminal of 80 columns: progress bars, which a pipe never shows."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.modes.two_class_project import make_project, write_jets

MODES = "convert_train_calibrate_evaluate_benchmark_predict"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    return tmp_path


def in_terminal(*arguments: str) -> tuple[int, str]:
    """Run the command in a pseudo-terminal; return its exit status and all that it shows."""
    ours, theirs = pty.openpty()
    own = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    command = [sys.executable, "-m", "phaze_ee", *arguments]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=own) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 65_536)
            except OSError:  # Linux, when the other end is closed
                part = b""
            if not part:
                break
            shown += part
    os.close(ours)
    return process.returncode, shown.decode()


def test_all_modes_run_in_a_terminal(folder: Path) -> None:
    make_project(
        folder, f"c.train_files = [{str(folder / 'train.root')!r}]", "c.epochs = 1", "c.epsilon = 0.4", "c.seed = 3"
    )
    write_jets(folder / "train.root", np.arange(40) % 2)
    status, shown = in_terminal("-m", "chain", "-p", "Tops", "small", "-o", MODES)
    assert status == 0, shown[-2000:]
    assert "Traceback" not in shown
    for number, mode in enumerate(MODES.split("_"), start=1):
        assert f"{number}/6 {mode}" in shown
    assert "jets/s" in shown
    lines = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "\n").split("\n")]
    assert sum(set(line) == {"─"} for line in lines) == 6  # a table for each mode
    assert [line for line in lines if len(line) > 80 and "/" not in line] == []
    assert not any(line.startswith("epoch") and "val acc" in line for line in lines)
    for said in (
        "Promise: at most 0.4 of",
        "promise kept on these jets",
        "on the same jets: ",
        "With the policy: ",
        "--details shows all",
    ):
        assert said in shown
