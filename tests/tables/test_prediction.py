"""The table of predictions: what an audit found, and what few found jets say."""

import pytest
from scipy.stats import chi2

from phaze_ee.engine.audit import AuditReport
from phaze_ee.tables.prediction import _add_audit
from phaze_ee.tables.style import empty_table


def captions(found: int) -> str:
    report = AuditReport(
        jets=1000, left=900, audited=90, macs=10, found=found, changed=10.0 * found, changed_squares=100.0 * found
    )
    table = empty_table("jets", ["jets", "share"], first="leave at")
    _add_audit(table, report, 1000)
    return str(table.caption)


@pytest.mark.parametrize("found", [1, 4, 9])
def test_few_found_jets_have_wide_limits(found: int) -> None:
    low, high = chi2.ppf(0.025, 2 * found) / 2 / found, chi2.ppf(0.975, 2 * found + 2) / 2 / found
    assert f"the truth may be {low:.2g} to {high:.2g} times that (95 %)" in captions(found)


@pytest.mark.parametrize("found", [0, 10])
def test_none_and_many_have_no_such_line(found: int) -> None:
    assert "the truth may be" not in captions(found)
