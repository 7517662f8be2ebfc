"""The one table that each mode shows: at most 12 rows of at most 80 columns, and no cell broken over lines."""

import dataclasses

import pytest
from rich.table import Table

from phaze_ee.names import exit_names
from phaze_ee.results.benchmark import BenchmarkResults
from phaze_ee.results.evaluation import EvaluationResults, Rejection
from phaze_ee.results.policy import Fraction, RealisedFigures, RealisedRisk
from phaze_ee.results.project import ProjectResults
from phaze_ee.tables.benchmark import cost_sentences, cost_table
from phaze_ee.tables.comparison import comparison_table
from phaze_ee.tables.evaluation import summary_table
from phaze_ee.tables.headline import Headline, headline_sentence, headline_table
from phaze_ee.tables.policy import realised_lines
from phaze_ee.tables.style import MOST_ROWS, WIDTH, few
from phaze_ee.tables.training import training_table
from tests.plots.dynamic_examples import dynamic_results, timed_benchmark
from tests.plots.examples import evaluation_results, project_results, training_history
from tests.tables.test_policy import rendered, row

LONG = "a_project_with_a_name_that_is_too_long_for_a_table"
MANY = 15


def many_exits() -> EvaluationResults:
    results = evaluation_results()
    rejection = Rejection(
        signal="label_HiggsToFourQuarks", background="label_QuantumChromodynamics", signal_efficiency=0.995,
        value=123456.0, error=65432.0,
    )  # fmt: skip
    exit_ = results.exits["full_model"].model_copy(
        update={"accuracy": 0.86123, "accuracy_error": 0.00035, "rejections": [rejection], "mean_macs": 1.2e9,
                "macs_share": 1.0}
    )  # fmt: skip
    return results.model_copy(update={"exits": dict.fromkeys(exit_names(MANY), exit_), "jets": 1_000_000})


def many_times() -> BenchmarkResults:
    results = timed_benchmark()
    assert results.latency is not None
    entries = [
        entry.model_copy(update={"name": name})
        for entry in results.latency.entries[-1:] + results.latency.entries[:1]
        for name in exit_names(MANY)
    ]
    return results.model_copy(update={"latency": results.latency.model_copy(update={"entries": entries})})


def many_projects() -> list[ProjectResults]:
    judged = dataclasses.replace(project_results(LONG), dynamic=dynamic_results())
    return [dataclasses.replace(judged, name=f"{number}_{LONG}") for number in range(MANY)]


@pytest.mark.parametrize(
    "table",
    [
        summary_table(many_exits(), many_exits().exits["full_model"], None),
        cost_table(many_times()),
        comparison_table(many_projects()),
        training_table(training_history(), 3),
    ],
    ids=["evaluate", "benchmark", "compare", "train"],
)
def test_a_main_table_is_small(table: Table) -> None:
    lines = rendered(table)
    assert max(map(len, lines)) <= WIDTH
    headers = max(str(column.header).count("\n") for column in table.columns) + 1
    assert table.row_count <= MOST_ROWS
    captions = str(table.caption).count("\n") + 1 if table.caption is not None else 0
    assert sum(bool(line.strip()) for line in lines) == table.row_count + headers + 2 + captions


def test_of_many_rows_the_first_and_the_last_are_shown() -> None:
    assert few(range(5), 5) == [0, 1, 2, 3, 4]
    assert few(range(9), 5) == [0, 1, None, 7, 8]
    assert few(range(9), 6) == [0, 1, None, 6, 7, 8]


def test_the_policy_stands_beside_the_exits_with_one_convention_of_macs() -> None:
    results = many_exits().model_copy(update={"exits": dict(list(many_exits().exits.items())[-2:])})
    policy = results.exits["full_model"].model_copy(update={"accuracy": 0.85, "mean_macs": 6e8, "macs_share": 0.5})
    table = summary_table(results, policy, None)
    assert row(table, "policy").split()[-3:] == ["600.000", "50.0", "%"]
    assert "each with its own number of particles" in str(table.caption)
    earlier = summary_table(evaluation_results(), None, None)  # of version 0.1: no costs
    assert row(earlier, "full model").split()[-2:] == ["-", "-"]


def test_what_the_policy_saves_is_said() -> None:
    saves, size = cost_sentences(timed_benchmark(), sizes=True)
    assert cost_sentences(timed_benchmark(), sizes=False) == [saves]
    assert saves == "With the policy: 2.50 times the jets/s of the full model at 100.0 % of its MACs"
    assert size == "One jet padded to 128 particles: 533.72 M MACs in the full model (366,000 parameters)"


def one_at_a_time(policy_ms: float) -> BenchmarkResults:
    """Return times in which the policy takes this long for one jet, the full model 4 ms and exit 0 1 ms."""
    results = timed_benchmark()
    assert results.latency is not None
    alone = results.latency.chosen[0].model_copy(update={"batch_size": 1, "p50_ms": policy_ms})
    chosen = [alone, *results.latency.chosen]
    return results.model_copy(update={"latency": results.latency.model_copy(update={"chosen": chosen})})


def test_a_policy_that_is_slower_for_one_jet_says_why() -> None:
    saves, why = cost_sentences(one_at_a_time(5.0), sizes=False)
    assert "2.50 times" in saves
    assert why.startswith("One jet at a time the policy takes 5 ms and the full model 4 ms.")
    assert "exit 0 alone has 100.0 % of the MACs and takes 1 ms" in why
    assert len(cost_sentences(one_at_a_time(3.9), sizes=False)) == 1


def test_benchmark_says_whose_cost_the_policy_has() -> None:
    assert "that of evaluate" in str(cost_table(timed_benchmark()).caption)
    assert str(cost_table(timed_benchmark()).caption).endswith("Machine: Epyc 1")
    assert "that of evaluate" not in str(cost_table(timed_benchmark(with_policies=False)).caption)


TARGET = {"name": "signal_efficiency", "signal": "label_Hbb", "efficiency": 0.5}


def headline() -> Headline:
    """Of a tagger that keeps its promise; the policy takes a tenth of the time."""
    prior = RealisedFigures(
        class_shares={"label_Hbb": 0.001, "label_QCD": 0.999}, macs=3e5, full_macs=6e6, cost_share=0.05,
        cost_share_error=0.004, accuracy=0.95, accuracy_error=0.01, full_accuracy=0.96, exit_shares={},
    )  # fmt: skip
    judged, times = dynamic_results(), timed_benchmark()
    assert times.latency is not None
    risk = RealisedRisk(name="signal lost", epsilon=0.01, rate=Fraction(value=0.004, error=0.002, jets=1000))
    policy = judged.policy.model_copy(update={"risks": [risk]})
    slow, fast = ({"jets_per_second": rate, "jets_per_second_error": rate / 50} for rate in (1000.0, 10_000.0))
    latency = times.latency.model_copy(
        update={
            "entries": [entry.model_copy(update=slow) for entry in times.latency.entries],
            "chosen": [entry.model_copy(update=fast) for entry in times.latency.chosen],
        }
    )
    results = ProjectResults(
        "demo",
        evaluation_results(),
        times.model_copy(update={"latency": latency}),
        judged.model_copy(update={"prior": prior, "policy": policy}),
    )
    found = Headline.of(results, TARGET)
    assert found is not None
    untimed = timed_benchmark(with_policies=False)
    assert Headline.of(results, {"name": "accuracy_drop"}) is None
    assert Headline.of(dataclasses.replace(results, dynamic=judged), TARGET) is None
    assert Headline.of(dataclasses.replace(results, benchmark=untimed), TARGET) is None
    return found


def test_the_headline_has_cost_time_and_what_is_lost() -> None:
    table = headline_table(headline())
    lines = rendered(table)
    assert max(map(len, lines)) <= WIDTH
    assert "Hbb at 50 % efficiency; jets: 99.9 % QCD, 0.1 % Hbb" in lines[0]
    cells = ["100 %", "5.00 ± 0.40 %", "1,000", "10,000", "1 ×", "10.00 ± 0.28 ×", "0.40 ± 0.20 %"]
    text = "\n".join(lines)
    assert [cell for cell in cells if cell not in text] == []


def test_the_headline_says_whether_the_promise_is_kept() -> None:
    kept = headline()
    assert headline_sentence(kept, 0.95) == (
        "Promise kept: of the 1,000 Hbb test jets that the full model keeps, 0.40 ± 0.20 % are lost; "
        "promised: at most 1 %, with confidence 0.95"
    )
    risk = kept.risk.model_copy(update={"epsilon": 0.003})
    assert headline_sentence(dataclasses.replace(kept, risk=risk), 0.95).startswith("Promise exceeded: ")


def test_costs_for_a_class_prior_are_beside_those_of_the_files() -> None:
    prior = headline().prior
    table = summary_table(evaluation_results(), evaluation_results().exits["full_model"], None, prior)
    assert "policy for class_prior (99.9 % QCD, 0.1 % Hbb): 5.00 ± 0.40 % of full" in str(table.caption)
    assert max(map(len, rendered(table))) <= WIDTH
    latency = headline().latency.model_copy(update={"class_shares": prior.class_shares})
    times = timed_benchmark().model_copy(update={"latency": latency, "policy_accuracy": 0.9512})
    assert "Timed jets: 99.9 % QCD, 0.1 % Hbb (class_prior)" in str(cost_table(times).caption)
    assert row(cost_table(times), "policy").split()[-1] == "0.9512"


def test_a_promise_is_kept_or_exceeded_by_some_errors() -> None:
    (line,) = realised_lines(dynamic_results())
    assert line == (
        "promise exceeded by 15.0 standard errors on these jets: jets made wrong 0.0500 ± 0.0020 of 10,000 jets, "
        "allowed 0.02"
    )
