"""The results files: the contract's keys, and what a damaged file looks like."""

import json
from pathlib import Path

import pytest

from phaze_ee.errors import RunError, UsageError
from phaze_ee.results.benchmark import BenchmarkResults, ExitBenchmark
from phaze_ee.results.training import EpochRecord, TrainingHistory

EXITS = ("exit_0", "exit_1", "exit_2", "full_model")
CONTRACT_KEYS = {"flops", "flops_str", "params", "params_str", "accuracy", "roc_auc"}


def benchmark(accuracy: float | None = 0.75) -> BenchmarkResults:
    exits = {
        name: ExitBenchmark(
            flops=1234567 * (index + 1),
            flops_str="1.23 MMac",
            params=50000,
            params_str="0.05M",
            macs=1200000 * (index + 1),
            share_of_full=(index + 1) / 4,
            accuracy=accuracy,
            roc_auc=0.95,
        )
        for index, name in enumerate(EXITS)
    }
    return BenchmarkResults(exits=exits, project="w/p", model="m", particles=128, input_channels=19, unit="MAC per jet")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "results" / "benchmark_results.json"
    benchmark().write(path)
    return path


def test_round_trip(path: Path) -> None:
    assert BenchmarkResults.read(path, made_by="benchmark") == benchmark()


@pytest.mark.parametrize("accuracy", [None, float("inf")])
def test_round_trip_of_what_json_has_no_number_for(tmp_path: Path, accuracy: float | None) -> None:
    benchmark(accuracy).write(tmp_path / "x.json")
    assert BenchmarkResults.read(tmp_path / "x.json", made_by="benchmark") == benchmark(accuracy)


def test_exits_stand_at_the_top_level_in_order_with_the_contracts_keys(path: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    assert [key for key in content if key.startswith("exit_") or key == "full_model"] == list(EXITS)
    assert all(set(content[name]) >= CONTRACT_KEYS for name in EXITS)
    assert content["exit_0"]["flops"] == 1234567
    assert content["exit_0"]["flops_str"] == "1.23 MMac"
    assert content["schema_version"] == 1


def test_history_round_trip(tmp_path: Path) -> None:
    epoch = EpochRecord(
        epoch=0,
        learning_rate=0.1,
        beta=[0.0],
        train_total_loss=1.0,
        train_loss=[1.0, 2.0],
        train_accuracy=[0.1, 0.2],
        jets_per_second=5.0,
    )
    history = TrainingHistory(
        project="w/p", exit_names=["exit_0", "full_model"], exit_loss_strategy="mimic_flow", epochs=[epoch]
    )
    history.write(tmp_path / "h.json")
    assert TrainingHistory.read(tmp_path / "h.json", made_by="train") == history


def refused(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        BenchmarkResults.read(path, made_by="benchmark")
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    return text


def test_a_missing_file_names_the_mode_that_makes_it(tmp_path: Path) -> None:
    assert refused(tmp_path / "x.json").endswith("does not exist yet; run mode 'benchmark' first")


@pytest.mark.parametrize(
    "damage", [lambda text: text[: len(text) // 2], lambda text: b"", lambda text: b"\xff\xfe" + text]
)
def test_a_damaged_file(path: Path, damage: object) -> None:
    assert callable(damage)
    path.write_bytes(damage(path.read_bytes()))
    assert "not a results file of this version" in refused(path)
    assert "run mode 'benchmark' again" in refused(path)


def test_another_version(path: Path) -> None:
    path.write_text(
        path.read_text(encoding="utf-8").replace('"schema_version": 1', '"schema_version": 2'), encoding="utf-8"
    )
    assert "schema_version" in refused(path)


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"epochs": []}', encoding="utf-8")
    assert "not a results file of this version" in refused(tmp_path / "x.json")


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    assert refused(tmp_path) == f"cannot read {tmp_path}: Is a directory"


def test_a_failed_write_keeps_the_older_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def write_text(self: Path, *arguments: object, **keywords: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", write_text)
    with pytest.raises(RunError, match=r"benchmark_results\.json: No space left on device"):
        benchmark(0.5).write(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
