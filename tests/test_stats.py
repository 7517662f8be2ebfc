"""Statistics against scikit-learn and scipy."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import chi2_contingency, rankdata
from scipy.stats.contingency import association
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as sklearn_curve

from phaze_ee.stats import chi_square, cramers_v, roc_area, roc_curve, share_below

TABLES = hnp.arrays(np.int64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=5), elements=st.integers(1, 1000))
# Few different values, so that many are equal.
SCORES = hnp.arrays(np.float64, st.integers(2, 60), elements=st.integers(-4, 4).map(lambda value: value / 3))


def corrected(table: npt.NDArray[np.int64]) -> float:
    """Return Cramér's V after Bergsma, from the one without a correction."""
    jets, sizes = table.sum(), np.array(table.shape)
    squared = association(table, method="cramer") ** 2 * (sizes.min() - 1)
    squared = max(0.0, squared - (sizes - 1).prod() / (jets - 1))
    smaller = (sizes - (sizes - 1) ** 2 / (jets - 1)).min() - 1
    return float(np.sqrt(min(1.0, squared / smaller))) if smaller > 0 else 0.0


def both_kinds(number: int) -> npt.NDArray[np.bool_]:
    positive_N = np.random.default_rng(number).random(number) < 0.4
    positive_N[:2] = True, False
    return positive_N


@example(table=np.array([[10, 3], [4, 9]]), continuity=True)
@example(table=np.array([[5, 5], [5, 6]]), continuity=True)  # the counts are less than 1/2 away
@example(table=np.array([[10, 3], [4, 9]]), continuity=False)
@given(table=TABLES, continuity=st.booleans())
def test_chi_square(table: npt.NDArray[np.int64], continuity: bool) -> None:
    expected = chi2_contingency(table, correction=continuity)
    assert chi_square(table, continuity=continuity) == pytest.approx(
        (expected.statistic, expected.dof, expected.pvalue), rel=1e-9, abs=1e-12
    )
    if min(table.shape) > 1:
        assert cramers_v(table) == pytest.approx(corrected(table), rel=1e-6, abs=1e-6)


def test_a_table_of_one_row_shows_no_dependence() -> None:
    assert chi_square(np.array([[3, 4, 5]])) == (0.0, 0, 1.0)
    assert cramers_v(np.array([[3, 4, 5]])) == 0


def test_independent_jets_show_no_association() -> None:
    random = np.random.default_rng(0)
    tables = random.multinomial(200, np.full(30, 1 / 30), size=200).reshape(-1, 3, 10)
    assert np.mean([cramers_v(table) for table in tables]) < 0.05
    assert np.mean([association(table, method="cramer") for table in tables]) > 0.2


@given(SCORES)
def test_roc(score_N: npt.NDArray[np.float64]) -> None:
    positive_N = both_kinds(len(score_N))
    assert roc_area(positive_N, score_N) == pytest.approx(roc_auc_score(positive_N, score_N), abs=1e-12)
    false_positive_rate, true_positive_rate, _ = sklearn_curve(positive_N, score_N)
    found = roc_curve(positive_N, score_N)
    np.testing.assert_array_equal(found.false_positive_rate, false_positive_rate)
    np.testing.assert_array_equal(found.true_positive_rate, true_positive_rate)


@given(SCORES)
def test_share_below_is_the_mean_rank(value_N: npt.NDArray[np.float64]) -> None:
    np.testing.assert_allclose(share_below(value_N, value_N) * len(value_N) + 0.5, rankdata(value_N))
