"""``benchmarks/gpu.py`` as far as a CPU allows: every section runs, and what fails is a line with the reason."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu_sections.rows import (
    LOADER,
    SECTIONS,
    STEP,
    TRAIN,
    Row,
    about,
    append,
    bar_table,
    bars,
    line,
    one_line,
    table,
)
from benchmarks.gpu_sections.worker import collect
from tests.test_imports import NOT_NEEDED

ROOT = Path(__file__).parents[2]
WORKER = """
import sys
from tests.engine.alone import Missing
sys.meta_path.insert(0, Missing(set(sys.argv[1:])))
from benchmarks.gpu import parse
from benchmarks.gpu_sections.rows import SECTIONS
from benchmarks.gpu_sections.worker import work
work(parse(["--device=cpu", "--tiny", "--shared="]), list(SECTIONS))
"""
# Writes what a worker does. "cascade" hangs, "latency" breaks its process.
SCRIPTED = """
import json, sys, time
for section in sys.argv[1:]:
    print(json.dumps({"begin": section}), flush=True)
    print(json.dumps({"section": section, "who": "a", "precision": "float32", "jets_per_second": 1.0}), flush=True)
    if section == "cascade":
        time.sleep(60)
    if section == "latency":
        raise SystemExit("the card is gone")
"""


def test_every_section_runs_with_few_libraries() -> None:
    """Only the precisions that a CPU does not have fail."""
    names = set(NOT_NEEDED) - {"pandas", "sklearn"}  # which torch's compiler looks for
    command = [sys.executable, "-c", WORKER, *names]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    found = [json.loads(text) for text in result.stdout.splitlines()]
    assert [values["begin"] for values in found if "begin" in values] == list(SECTIONS)
    rows = [Row(**values) for values in found if "begin" not in values]
    failed = [row for row in rows if row.error is not None]
    assert {row.section for row in rows if row.error is None} == set(SECTIONS)
    assert all(row.who.startswith("phaze_ee") and row.precision != "float32" for row in failed), failed
    # In float32, the masses of pairs are small differences of large numbers.
    for network, error in (("ParticleNet", 1e-4), ("ParT", 2e-2)):
        exact = [row for row in rows if row.section == f"inference {network}" and row.precision == "float32"]
        assert {row.who for row in exact} == {"phaze_ee", "weaver eager", "weaver compiled"}
        assert all(row.difference is not None and row.difference < error and row.same_class == 1 for row in exact)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    monkeypatch.setitem(SECTIONS, "cascade", 1)
    rows: list[Row] = []
    collect([sys.executable, "-c", SCRIPTED], ["card", "cascade", "latency", "training ParT"], rows.append)
    return rows


def test_a_section_that_hangs_or_breaks_leaves_its_rows_and_a_reason(rows: list[Row]) -> None:
    reasons = [(row.section, row.error) for row in rows]
    assert reasons == [
        ("card", None),
        ("cascade", None),
        ("cascade", "stopped, because 1 s were over; rows after this one are missing"),
        ("latency", None),
        ("latency", "the process ended with 1: the card is gone"),
        ("training ParT", None),
    ]


def test_a_program_that_does_not_start_is_named() -> None:
    rows: list[Row] = []
    collect([sys.executable, "-c", "import nothing_of_that_name"], ["card", "latency"], rows.append)
    assert [row.section for row in rows] == ["card", "latency"]
    assert all("No module named 'nothing_of_that_name'" in (row.error or "") for row in rows)


def test_sections_without_time_are_named() -> None:
    rows: list[Row] = []
    collect(["not", "started"], ["card", "latency"], rows.append, 0)
    assert [row.section for row in rows] == ["card", "latency"]
    assert all(row.error == "not run: 0 s were over" for row in rows)


def test_bars_are_ratios_of_rows() -> None:
    net = "inference ParticleNet"
    found = {
        bar.title: bar.measured
        for bar in bars(
            [
                Row(net, "phaze_ee", "float32", jets_per_second=900.0),
                Row(net, "weaver eager", "float32", jets_per_second=300.0),
                Row(net, "weaver compiled", "bfloat16", error="RuntimeError: no compiler"),
                Row(net, "phaze_ee", "float16", jets_per_second=5000.0, same_class=0.998),
                Row("training ParticleNet", "phaze_ee", "bfloat16", memory_gb=2.0),
                Row("training ParticleNet", "weaver compiled", "bfloat16", memory_gb=8.0),
                Row("latency", "phaze_ee, graphs", "float32", 1, jets_per_second=50.0),
                Row("latency", "phaze_ee, full model", "float32", 16, jets_per_second=500.0),
                Row("latency", "weaver eager", "float32", 1, jets_per_second=20.0),
            ]
        )
        if bar.measured is not None
    }
    assert found == {
        "ParticleNet float32 / weaver eager float32": 3.0,
        "ParticleNet float16, jets/s": 5000.0,
        "ParticleNet float16, same class as float64": 0.998,
        "weaver compiled / training, memory": 4.0,
        "one jet, full model / weaver eager": 2.5,
    }


def test_what_is_measured_on_demand_runs_and_has_a_share() -> None:
    command = [sys.executable, "benchmarks/gpu.py", "--device=cpu", "--tiny", "--shared=", "--end-to-end"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    shown = result.stdout.splitlines()
    for who in (LOADER, STEP, TRAIN):
        assert any(re.fullmatch(rf"{who} +float32 +\d+ +[\d,]+ *", text) for text in shown), result.stdout
    assert any(re.match(r"train end to end / bare step +0.85 +[\d.]+  (reached|missed)", text) for text in shown)


def test_pairs_are_measured_alone() -> None:
    command = [sys.executable, "benchmarks/gpu.py", "--device=cpu", "--tiny", "--shared=", "--sections", "pairs"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    for who in ("kernels", "torch"):
        for work in ("inference", "training"):
            assert re.search(rf"^{who}, {work} +float32 +\d+ +[\d,]+ ", result.stdout, re.MULTILINE), result.stdout


def test_the_share_of_a_training_is_that_of_its_bare_step() -> None:
    rates = {LOADER: 900.0, STEP: 100.0, TRAIN: 90.0}
    found = bars([Row("end to end", who, "bfloat16", 16, rate) for who, rate in rates.items()])
    assert [bar.measured for bar in found if bar.title == "train end to end / bare step"] == [0.9]


def test_the_table_of_bars_says_what_is_missing() -> None:
    text = bar_table(bars([Row("latency", "weaver eager", "float32", 1, jets_per_second=20.0)]))
    assert "reached" not in text.replace("not reached", "")
    assert text.count("not measured") == 12


def test_the_ledger_has_a_line_for_each_row(tmp_path: Path) -> None:
    common = about("card of a test", ROOT)
    for row in (Row("latency", "a", "float32", 1, 2.0), Row("latency", "b", "float32", error="RuntimeError: no")):
        append(tmp_path / "ledger.jsonl", [row], common)
    first, second = (json.loads(text) for text in (tmp_path / "ledger.jsonl").read_text().splitlines())
    assert {"card", "date", "commit", "torch", "numpy", "weaver-core"} <= set(first)
    assert (first["jets_per_second"], second["error"]) == (2.0, "RuntimeError: no")
    assert "error" not in first


def test_a_tree_without_git_has_no_commit(tmp_path: Path) -> None:
    assert about("card of a test", tmp_path)["commit"] == "unknown"


def test_rows_fit_a_terminal() -> None:
    row = Row("cascade", "phaze_ee, full model", "bfloat16", 16_384, 1_234_567.0, 123.45, 1.5e-3, 0.9991, 4321.0, 789.0)
    assert "1,234,567" in line(row)
    assert max(map(len, table([row]).splitlines())) <= 80


def test_an_error_is_one_line() -> None:
    assert one_line(RuntimeError("first\nsecond")) == "RuntimeError: first"
    assert one_line(RuntimeError("")) == "RuntimeError: no message"
