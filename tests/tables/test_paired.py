from phaze_ee.results.evaluation import EvaluationResults, ExitEvaluation
from phaze_ee.tables.paired import paired_table
from phaze_ee.tables.style import MOST_ROWS, WIDTH
from tests.plots.examples import evaluation_results
from tests.tables.test_main_tables import many_exits
from tests.tables.test_policy import rendered, row


def counted(exit_: ExitEvaluation, here: int, in_full: int) -> ExitEvaluation:
    return exit_.model_copy(update={"right_only_here": here, "right_only_in_full": in_full})


def with_counts(results: EvaluationResults, here: int, in_full: int) -> EvaluationResults:
    return results.model_copy(
        update={"exits": {name: counted(exit_, here, in_full) for name, exit_ in results.exits.items()}}
    )


def test_a_difference_has_its_paired_error_and_a_star_if_it_is_significant() -> None:
    results = with_counts(evaluation_results(jets=20_000), 100, 300)
    table = paired_table(results, counted(results.exits["exit_0"], 103, 100))
    assert table is not None
    assert row(table, "exit 0").split() == ["exit", "0", "-1.000", "±", "0.100", "*", "100", "300"]
    assert row(table, "policy").split() == ["policy", "+0.015", "±", "0.071", "103", "100"]
    assert not any(line.startswith("full model") for line in rendered(table))
    assert "Holm's correction for 4)" in str(table.caption)


def test_the_correction_is_for_all_differences() -> None:
    results = with_counts(evaluation_results(jets=20_000), 0, 6)  # p = 0.031
    alone = results.model_copy(update={"exits": dict(list(results.exits.items())[-2:])})
    table, other = paired_table(alone, None), paired_table(results, None)
    assert table is not None
    assert other is not None
    assert "*" in row(table, "exit 2")
    assert "Holm" not in str(table.caption)
    assert "*" not in row(other, "exit 2")
    assert "none is significant at 5 %" in str(other.caption)


def test_results_without_counts_have_dashes_and_no_exit_no_table() -> None:
    results = evaluation_results()
    table = paired_table(results, None)
    assert table is not None
    assert row(table, "exit 0").split() == ["exit", "0", "-", "-", "-"]
    full_model = results.model_copy(update={"exits": dict(list(results.exits.items())[-1:])})
    assert paired_table(full_model, None) is None


def test_the_table_is_small() -> None:
    results = with_counts(many_exits(), 123_456, 234_567)
    table = paired_table(results, results.exits["full_model"])
    assert table is not None
    assert table.row_count == MOST_ROWS
    lines = rendered(table)
    assert max(map(len, lines)) <= WIDTH
    assert sum(bool(line.strip()) for line in lines) == table.row_count + 5
