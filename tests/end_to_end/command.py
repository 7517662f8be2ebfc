"""Running the command as users run it, and editing configurations as they edit them."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from phaze_ee.cli import main
from phaze_ee.workspace import Project

# Twenty seconds of training become two.
SMALL: dict[str, Any] = {
    "train_files": ["sample_jets/val/*.root"],
    "calibration_files": ["sample_jets/train/*.root"],
    "conv_params": [(4, (8, 8)), (4, (12, 12))],
    "fc_params": [(16, 0.1)],
    "exit_stages": ["input", 0],
    "beta_max": [1.0, 1.0],
    "epochs": 1,
    "zero_epochs": 0,
    "device": "cpu",
}


def environment(workspaces: Path) -> dict[str, str]:
    return {**os.environ, "PHAZE_EE_WORKSPACES": str(workspaces), "OMP_NUM_THREADS": "1"}


def command(workspaces: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run ``phaze_ee`` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "phaze_ee", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=environment(workspaces),
    )


def edit(project: Project, **values: Any) -> None:
    """Change lines ``c.name = value`` of the project's configuration."""
    text = project.config.read_text(encoding="utf-8")
    for name, value in values.items():
        lines = re.findall(rf"(?m)^    c\.{name} = .*$", text)
        assert len(lines) == 1
        text = text.replace(lines[0], f"    c.{name} = {value!r}")
    project.config.write_text(text, encoding="utf-8")


def digest(folder: Path) -> dict[str, str]:
    """Return a hash of every file below a folder, and the names of its folders."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


def fails(capsys: pytest.CaptureFixture[str], status: int, *arguments: str) -> str:
    """Run the command in this process; return its one line of error, after checking status and form."""
    capsys.readouterr()
    assert main(arguments) == status
    printed = capsys.readouterr().err
    assert printed.startswith("phaze_ee: error: ")
    assert printed.count("\n") == 1
    assert printed.endswith("\n")
    return printed.removeprefix("phaze_ee: error: ").rstrip("\n")
