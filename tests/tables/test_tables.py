import io

import pytest
from rich.console import Console
from rich.table import Table

from phaze_ee.names import class_title, exit_names, exit_title, quantity
from phaze_ee.results.benchmark import BenchmarkResults, ExitBenchmark
from phaze_ee.results.evaluation import EvaluationResults, ExitEvaluation, Rejection
from phaze_ee.tables.benchmark import benchmark_table, curve_latency_table, head_table
from phaze_ee.tables.evaluation import evaluation_table, rejection_tables
from phaze_ee.tables.style import WIDTH, with_error
from tests.plots.dynamic_examples import timed_benchmark
from tests.plots.examples import benchmark_results


def evaluation(exits: int, rejections: list[Rejection]) -> EvaluationResults:
    exit_ = ExitEvaluation(
        accuracy=0.8612,
        accuracy_error=0.0012,
        roc_auc=None,
        loss=0.4,
        expected_calibration_error=0.02,
        confusion_matrix=[[1]],
        rejections=rejections,
        roc_curves=[],
    )
    return EvaluationResults(
        exits=dict.fromkeys(exit_names(exits), exit_),
        project="JetClass/strategy",
        model="best_model.pt",
        classes=["label_QCD"],
        jets=1_000_000,
        jets_per_class={"label_QCD": 1_000_000},
        files=[],
    )


def rejection(value: float | None, error: float | None, lower_limit: float | None = None) -> Rejection:
    return Rejection(
        signal="label_Tbl",
        background="label_QCD",
        signal_efficiency=0.995,
        value=value,
        error=error,
        lower_limit=lower_limit,
    )


def rendered(table: Table) -> str:
    console = Console(file=io.StringIO(), width=WIDTH)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_rejections_of_four_exits_stay_on_one_line_each() -> None:
    (table,) = rejection_tables(evaluation(4, [rejection(32787.1, 1234.5)]))
    row = next(line for line in rendered(table).splitlines() if "Tbl" in line)
    assert row.split() == ["Tbl", "99.5", "%", *(["32787", "±", "1234"] * 4)]


def test_more_exits_make_more_tables() -> None:
    assert len(rejection_tables(evaluation(9, [rejection(2.0, 0.1)]))) == 3
    assert rejection_tables(evaluation(9, [])) == []


def test_a_limit_is_explained_and_a_missing_class_is_not_a_number() -> None:
    (table,) = rejection_tables(evaluation(1, [rejection(None, None, 87.72), rejection(None, None)]))
    text = rendered(table)
    assert "> 87.7" in text
    assert "no QCD jet passes" in text
    limit, missing = (line.split() for line in text.splitlines() if "Tbl" in line)
    assert (limit[-2:], missing[-1]) == ([">", "87.7"], "-")


def test_evaluation_table() -> None:
    row = next(line for line in rendered(evaluation_table(evaluation(2, []))).splitlines() if "full model" in line)
    assert row.split() == ["full", "model", "0.8612", "±", "0.0012", "-", "0.4000", "0.0200"]


def test_benchmark_rows_fit_on_one_line() -> None:
    exit_ = ExitBenchmark(
        flops=1_544_969_128,
        flops_str="1544.97 MMac",
        params=12_143_486,
        params_str="12.14M",
        macs=1_533_724_032,
        share_of_full=1.0,
        accuracy=0.8443,
        roc_auc=0.98491,
    )
    results = BenchmarkResults(
        exits={"full_model": exit_}, project="JetClass/x", model="", particles=128, input_channels=19, unit=""
    )
    text = rendered(benchmark_table(results))
    assert "128 particles, 19 input channels" in text
    row = next(line for line in text.splitlines() if "full model" in line)
    assert row.split() == ["full", "model", "1533.724", "100.00", "%", "1544.969", "12,143,486", "0.8443", "0.9849"]


def test_the_table_of_branches_leaves_out_the_full_model() -> None:
    results = benchmark_results(["exit_0", "full_model"])
    exits = {
        "exit_0": results.exits["exit_0"].model_copy(update={"head_macs": 211_456}),
        "full_model": results.exits["full_model"].model_copy(update={"macs": 533_724_032}),
    }
    text = rendered(head_table(results.model_copy(update={"exits": exits})))
    assert "exit branches alone: one jet of 128 particles" in text
    assert "thousand MACs" in text
    row = next(line for line in text.splitlines() if "exit 0" in line)
    assert row.split() == ["exit", "0", "211.46", "0.040", "%"]
    assert "full model " not in text.splitlines()[-1]


def test_policies_of_a_curve_are_told_apart_by_what_they_spend() -> None:
    latency = timed_benchmark().latency
    assert latency is not None
    first, other = latency.curves
    other = other.model_copy(update={"name": "confidence", "mean_macs": 5e7, "exit_fractions": [0.9, 0.1, 0.0, 0.0]})
    lines = rendered(curve_latency_table(latency.model_copy(update={"curves": [first, other]}))).splitlines()
    assert "batches of 256" in lines[0]
    rows = [line.split() for line in lines if "confidence" in line]
    assert [row[:5] for row in rows] == [
        ["confidence", "100.0", "%", "90.0", "%"],
        ["confidence", "25.0", "%", "100.0", "%"],
    ]


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [
        (0.71774, 0.02863, "0.718 ± 0.029"),
        (10638.4, 123.0, "10638 ± 123"),
        (104.23, 1.34, "104.2 ± 1.3"),
        (1.0, 0.0, "1"),
        (0.5, 0.1, "0.50 ± 0.10"),
        (-2.0361e31, 3.5e29, "(-2.036 ± 0.035)e31"),
        (0.0, 2e-9, "(0.0 ± 2.0)e-9"),
        (1234567.0, 8910.0, "1234567 ± 8910"),
    ],
)
def test_with_error(value: float, error: float, expected: str) -> None:
    assert with_error(value, error) == expected


def test_titles() -> None:
    assert exit_title("full_model") == "full model"
    assert [quantity(number, "jet") for number in (0, 1, 2000)] == ["0 jets", "1 jet", "2,000 jets"]
    assert [quantity(number, "batch") for number in (1, 2000)] == ["1 batch", "2,000 batches"]
    assert quantity(3, "epoch") == "3 epochs"
    assert (class_title("label_Hbb"), class_title("is_top")) == ("Hbb", "is_top")
