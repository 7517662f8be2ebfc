"""What the shell offers at a tab: the real command, asked as argcomplete asks it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def spaces(tmp_path: Path) -> Path:
    """Two workspaces, one with two projects and a comparison."""
    for folder in ("JetClass/first", "JetClass/second", "JetClass/comparisons", "top/only"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def offered(line: str, spaces: Path) -> list[str]:
    answer = spaces / "answer"
    own = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "COMP_TYPE": "9",
        "PHAZE_EE_WORKSPACES": str(spaces),
    }
    run = subprocess.run(
        [sys.executable, "-m", "phaze_ee"], env={**os.environ, **own}, capture_output=True, text=True, check=True
    )
    assert (run.stdout, run.stderr) == ("", "")
    return [word.strip() for word in answer.read_text().split("\n")]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("phaze_ee -m tr", ["train"]),
        ("phaze_ee -m train -p ", ["JetClass", "top"]),
        ("phaze_ee -m train -p JetClass ", ["first", "second"]),
        ("phaze_ee -m train -p JetClass s", ["second"]),
        ("phaze_ee -p JetClass first -m train --fr", ["--fresh"]),
        ("phaze_ee -m compare -p JetClass all --projects first s", ["second"]),
        ("phaze_ee -m chain -p JetClass first -o train_ev", ["train_evaluate"]),
        (
            "phaze_ee -m calibrate --target ",
            ["accuracy_drop", "net_accuracy_drop", "agreement", "signal_efficiency", "budget"],
        ),
        ("phaze_ee -m calibrate --score w", ["window"]),
        ("phaze_ee -m predict --format ", ["root", "parquet"]),
        ("phaze_ee -m train -p nowhere ", [""]),
    ],
)
def test_a_tab_offers_what_may_follow(line: str, expected: list[str], spaces: Path) -> None:
    assert offered(line, spaces) == expected


def test_flags_are_those_of_the_mode(spaces: Path) -> None:
    assert {"--epsilon", "--score", "--project"} <= set(offered("phaze_ee -m calibrate --", spaces))
    assert "--epsilon" not in offered("phaze_ee -m train --", spaces)
