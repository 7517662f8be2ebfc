"""``benchmarks/card.py`` as far as a CPU allows: parts in their order and time, and a line for what did not run."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import card
from benchmarks.card import PARTS, Part, main

ROOT = Path(__file__).parents[2]
# The message of a test that fails, and the tests that pass, as pytest prints them.
TESTS = "print('FAILED tests/a.py::b - assert 1 == 2\\nE  more\\n1 failed, 3 passed in 2.0s'); raise SystemExit(1)"
HANGS = "import time; print('2 passed in 1.0s', flush=True); time.sleep(60)"
TABLE = "print('a row as it comes\\n' + ' ' * 20 + 'batch   jets/s\\nthe same row')"


def parts(**commands: str) -> dict[str, Part]:
    return {name: Part(("-c", command), 2, ("torch",)) for name, command in commands.items()}


def run(tmp_path: Path, *given: str) -> int:
    return main(["--device=cpu", f"--out={tmp_path}", f"--ledger={tmp_path / 'ledger.jsonl'}", *given])


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "_GRACE", 1)
    fails = Part(("-c", "print('no line of pytest')"), 5, ("torch", "nothing_of_that_name"))
    monkeypatch.setattr(card, "PARTS", {**parts(tests=TESTS, hangs=HANGS), "absent": fails})


@pytest.mark.usefixtures("scripted")
def test_each_part_is_run_or_has_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path) == 1
    _, *printed = capsys.readouterr().out.split("\n\n")
    tests, hangs, absent = (part.splitlines() for part in printed)
    assert tests[:3] == ["tests", "FAILED tests/a.py::b - assert 1 == 2", "1 failed, 3 passed in 2.0s"]
    assert tests[3].startswith("ended with status 1; see ")
    assert "E  more" in Path(tests[3].partition("see ")[2]).read_text(encoding="utf-8")
    assert hangs[:2] == ["hangs", "2 passed in 1.0s"]
    assert hangs[2].startswith("stopped after 2 s")
    assert absent == ["absent", "left out: nothing_of_that_name is not installed"]
    rows = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["section"], row["who"], row["error"]) for row in rows] == [
        ("tests", "1 failed, 3 passed in 2.0s", "ended with status 1"),
        ("hangs", "2 passed in 1.0s", "stopped after 2 s"),
    ]
    assert {row["card"] for row in rows} == {"CPU"}


@pytest.mark.usefixtures("scripted")
def test_no_part_begins_after_the_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--minutes=0.01") == 1
    assert capsys.readouterr().out.count("left out: 0.01 minutes were over") == 2


def test_without_a_card_nothing_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main([]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "no CUDA device is here, or this torch has no CUDA: nothing is measured"
    ]


def test_of_a_benchmark_the_tables_are_shown(tmp_path: Path) -> None:
    output = tmp_path / "output.txt"
    assert card.run(["-c", TABLE], 30, output) == ""
    assert card.summary(PARTS["rates"], output) == [" " * 20 + "batch   jets/s", "the same row"]


def test_every_test_that_needs_a_card_is_in_a_part() -> None:
    given = [Path(name) for part in PARTS.values() for name in part.command if name.startswith("tests/")]
    assert all((ROOT / path).exists() for path in given)
    for path in (ROOT / "tests").rglob("test_*.py"):
        own = path.relative_to(ROOT)
        if path != Path(__file__) and 'reason="needs CUDA"' in path.read_text(encoding="utf-8"):
            assert any(own.is_relative_to(one) for one in given), f"{own} is in no part"


def test_a_benchmark_gets_the_options() -> None:
    arguments = card.parse(["--device=cpu", "--tiny", "--shared=folder"])
    assert card.command_of(PARTS["launches"], arguments, 30.4) == [
        "benchmarks/gpu.py", "--sections", "launches", "--seconds=30", "--device=cpu", "--tiny", "--shared=folder",
    ]  # fmt: skip
    assert sys.executable not in card.command_of(PARTS["tests of kernels"], arguments, 30)


def test_libraries_of_pythonpath_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "carried_library.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert card.run(["-c", "import carried_library, phaze_ee"], 30, tmp_path / "output.txt") == ""
