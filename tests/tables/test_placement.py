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
    assert sum(bool(line.strip()) for line in lines) == table.row_count + 3 + (table.caption is not None)


def test_of_many_placements_some_are_shown_and_the_recommended_one() -> None:
    table = placement_table(MANY)
    assert table.row_count == 11
    assert row(table, "[0, 1]").split()[2:4] == ["88.0", "%"]
    assert row(table, "[]").split()[1:3] == ["100.0", "%"]


def test_the_deepest_network_fits_the_line() -> None:
    deep = point(["input", *range(8)], 0.5, 0.8)
    results = PlacementResults.model_validate({**MANY.model_dump(), "recommended": deep.model_dump()})
    assert max(map(len, rendered(placement_table(results)))) <= WIDTH
