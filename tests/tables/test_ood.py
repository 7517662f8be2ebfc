import pytest
from rich.table import Table

from phaze_ee.tables.ood import auroc_table, leaving_table, ood_tables
from phaze_ee.tables.style import WIDTH
from tests.plots.ood_examples import ood_results
from tests.tables.test_policy import rendered, row


@pytest.mark.parametrize("table", ood_tables(ood_results()), ids=lambda table: str(table.title)[:10])
def test_every_row_stays_on_its_line(table: Table) -> None:
    lines = rendered(table)
    assert max(map(len, lines)) <= WIDTH
    assert sum(bool(line.strip()) for line in lines) == table.row_count + 3 + (table.caption is not None)


def test_what_an_exit_does_not_know_is_a_dash() -> None:
    table = auroc_table(ood_results())
    assert row(table, "exit 0").split() == ["exit", "0", *["0.600", "±", "0.008"] * 3, "-"]
    assert row(table, "by the policy").split()[-2:] == ["-", "-"]


def test_where_jets_leave() -> None:
    policy = ood_results().policy
    assert policy is not None
    assert row(leaving_table(policy), "full model").split()[2:] == ["25.0", "±", "1.0", "%"] * 2


def test_without_a_policy() -> None:
    assert len(ood_tables(ood_results(policy=False))) == 1
