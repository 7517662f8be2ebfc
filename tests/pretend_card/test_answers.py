"""What needs CUDA to answer, on the card that is not there."""

from pathlib import Path

import pytest

from tests.pretend_card.running import HERE, passed, run_with_card

BENCHMARK = ("benchmarks/gpu.py", "--tiny", "--sections")


def test_it_behaves_like_a_card(hooks: Path) -> None:
    assert passed(hooks, str(HERE / "test_like_a_card.py")) > 15


@pytest.mark.parametrize(
    ("files", "least"),
    [
        (("tests/engine/test_on_card.py", "tests/modes/test_on_card.py"), 7),
        (("tests/engine/test_graphs.py",), 16),
        (("tests/test_transfer.py", "tests/benchmark/test_precisions.py", "-k", "a_card"), 3),
        (("tests/training/test_ranger.py", "-k", "on_cuda"), 1),
    ],
)
def test_answers(files: tuple[str, ...], least: int, hooks: Path) -> None:
    assert passed(hooks, *files) >= least


def test_the_benchmark_captures_graphs(hooks: Path, tmp_path: Path) -> None:
    printed = run_with_card(hooks, *BENCHMARK, "launches", "--ledger", str(tmp_path / "ledger.jsonl"))
    rows = [line for line in printed.splitlines() if line.startswith(("ParticleNet, ", "ParT, "))]
    assert [row.split()[1] for row in rows] == ["launched", "graph"] * 2
    assert not [row for row in rows if "Error" in row]
