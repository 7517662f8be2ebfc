"""The fuzzer for about a minute, always with the same inputs, and two kills of each command that can be killed."""

import subprocess
import sys
from pathlib import Path

SEED, RUNS, KILLS = 20, 120, 2


def test_no_input_and_no_kill_breaks_the_command(tmp_path: Path) -> None:
    # In a process of its own, whose children are forked from a server with all imports.
    words = ["--seed", SEED, "--runs", RUNS, "--seconds", 1000, "--kills", KILLS, "--cases", tmp_path]
    script = Path(__file__).with_name("run.py")
    done = subprocess.run([sys.executable, script, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert f"{'all':<14}{RUNS:>8}" in done.stdout
