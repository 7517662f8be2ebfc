import io

import pytest
from rich.console import Console
from rich.table import Table

from phaze_ee.tables.policy import (
    audit_table,
    behaviour_table,
    class_table,
    curve_table,
    dynamic_tables,
    mass_table,
    policy_table,
    risk_table,
)
from phaze_ee.tables.style import WIDTH
from tests.plots.dynamic_examples import dynamic_results, mass_audit

LONG = tuple(f"label_{name}" for name in ("QCD", "Hqql", "HiggsToFourQuarks"))


def rendered(table: Table) -> list[str]:
    console = Console(file=io.StringIO(), width=WIDTH)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def row(table: Table, start: str) -> str:
    return next(line.strip() for line in rendered(table) if line.strip().startswith(start))


@pytest.mark.parametrize("table", dynamic_tables(dynamic_results(LONG)), ids=lambda table: str(table.title)[:30])
def test_every_row_stays_on_its_line(table: Table) -> None:
    lines = rendered(table)
    assert max(map(len, lines)) <= WIDTH
    assert sum(bool(line.strip()) for line in lines) == table.row_count + 3 + (table.caption is not None)


def test_tables_of_what_there_is() -> None:
    assert len(dynamic_tables(dynamic_results())) == 8
    results = dynamic_results(mass=False)
    policy = results.policy.model_copy(update={"rejections": []})
    bare = results.model_copy(update={"policy": policy, "curves": [], "exit_rates": []})
    assert len(dynamic_tables(bare)) == 4


def test_policy_beside_exits_and_bounds() -> None:
    table = policy_table(dynamic_results())
    assert table.row_count == 7
    assert row(table, "by the policy").split()[3:] == ["213.488", "40.00", "%", "0.7700", "±", "0.0040"]


def test_realised_risk_beside_the_allowed() -> None:
    assert row(risk_table(dynamic_results()), "jets made wrong").split()[3:] == [
        "0.0500", "±", "0.0020", "of", "10,000", "0.02",
    ]  # fmt: skip


def test_exits_where_nobody_leaves_have_no_calibration() -> None:
    table = behaviour_table(dynamic_results())
    assert row(table, "exit 2").split()[2:6] == ["20.0", "%", "0.0200", "-"]
    assert row(table, "mixture").split() == ["mixture", "0.0150"]


def test_classes_without_jets() -> None:
    table = class_table(dynamic_results())
    assert row(table, "QCD").split() == ["QCD", "100", "40.0", "%", "30.0", "%", "0.0", "%", "30.0", "%"]
    assert row(table, "Hcc").split() == ["Hcc", "0", "-", "-", "-", "-"]


def test_least_cost_near_the_full_accuracy() -> None:
    table = curve_table(dynamic_results())
    assert row(table, "confidence").split()[:4] == ["confidence", "0.7000", "90.0", "%"]
    assert row(table, "margin").split()[:4] == ["margin", "0.7000", "full", "model"]  # no point of the curve is near


def test_audits() -> None:
    assert row(audit_table(dynamic_results()), "jet_pt, QCD").split()[2:4] == ["0.120", "0.03"]
    empty = dynamic_results().model_copy(update={"mass": mass_audit(0)})
    assert row(mass_table(empty), "full model").split() == ["full", "model", "0", "-", "-", "-", "-"]
    assert row(mass_table(dynamic_results()), "leaving early").split()[2:4] == ["400", "0.0200"]
