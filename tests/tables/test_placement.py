import pytest
from rich.table import Table

from phaze_ee.results.placement import PlacementResults
from phaze_ee.tables.placement import candidate_table, placement_table
from phaze_ee.tables.style import WIDTH
from tests.plots.placement_examples import placement_results, point
from tests.tables.test_policy import rendered, row

MANY = placement_results(curve_points=40)


@pytest.mark.parametrize("table", [candidate_table(MANY), placement_table(MANY)], ids=["exits", "placements"])
def test_every_row_stays_on_its_line(table: Table) -> None:
    lines = rendered(table)
    assert max(map(len, lines)) <= WIDTH
    assert sum(bool(line.strip()) for line in lines) == table.row_count + 3 + len(str(table.caption).splitlines())


def test_of_many_placements_some_are_shown_and_the_recommended_one() -> None:
    table = placement_table(MANY)
    assert table.row_count == 11
    assert row(table, "[0, 1]").split()[2:4] == ["88.0", "%"]
    assert row(table, "[]").split()[1:3] == ["100.0", "%"]


def test_differences_to_the_full_model_have_paired_errors_and_stars() -> None:
    clear, unclear = (
        MANY.pareto[place].model_copy(update={"difference": -0.0123, "difference_error": 0.002, "p_value": p_value})
        for place, p_value in ((0, 0.01), (1, 0.03))
    )
    full = MANY.full_model.model_copy(update={"difference": 0.0, "difference_error": 0.0, "p_value": 1.0})
    results = MANY.model_copy(update={"pareto": [clear, unclear, full], "recommended": unclear})
    table = placement_table(results)
    lines = rendered(table)
    assert max(map(len, lines)) <= WIDTH
    assert row(table, "[1]").split()[4:7] == ["-1.23", "±", "0.20"]
    assert [line.count("*") for line in lines if line.startswith("[")] == [1, 1, 0]  # Holm: 0.01 < 0.025, 0.03 < 0.05
    assert "Holm's correction for 2)" in str(table.caption)
    weaker = results.model_copy(update={"pareto": [clear.model_copy(update={"p_value": 0.04}), unclear, full]})
    assert not any("*" in line for line in rendered(placement_table(weaker)) if line.startswith("["))


def test_the_deepest_network_fits_the_line() -> None:
    deep = point(["input", *range(8)], 0.5, 0.8)
    results = PlacementResults.model_validate({**MANY.model_dump(), "recommended": deep.model_dump()})
    assert max(map(len, rendered(placement_table(results)))) <= WIDTH
