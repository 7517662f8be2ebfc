"""Paired differences against a bootstrap, permutations and scipy."""

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import binomtest

from phaze_ee.paired import PairedCounts, significant

Right = npt.NDArray[np.bool_]


def pairs(random: np.random.Generator, jets: int, gained: float, lost: float) -> tuple[Right, Right]:
    """Return two answers, right for 60 % of the jets, with these shares that one alone has right."""
    kind_N = random.choice(4, size=jets, p=[gained, lost, 0.6, 0.4 - gained - lost])
    return np.isin(kind_N, (0, 2)), np.isin(kind_N, (1, 2))


def test_the_error_is_that_of_the_mean_difference_and_of_a_bootstrap() -> None:
    random = np.random.default_rng(1)
    right_N, reference_N = pairs(random, 500, 0.05, 0.12)
    counts = PairedCounts.of(right_N, reference_N)
    lost_N = right_N.astype(float) - reference_N
    assert counts.difference == pytest.approx(right_N.mean() - reference_N.mean())
    assert counts.error == pytest.approx(lost_N.std() / np.sqrt(500))
    resampled = lost_N[random.integers(500, size=(4000, 500))].mean(axis=1)
    assert counts.error == pytest.approx(resampled.std(), rel=0.05)
    independent = np.sqrt(right_N.var() / 500 + reference_N.var() / 500)
    assert counts.error < 0.8 * independent


def test_the_error_covers_the_true_difference() -> None:
    random = np.random.default_rng(2)
    found = [PairedCounts.of(*pairs(random, 400, 0.05, 0.12)) for _ in range(1000)]
    covered = np.mean([abs(count.difference + 0.07) < 1.96 * count.error for count in found])
    assert 0.93 < covered < 0.97


@pytest.mark.parametrize(
    ("gained", "lost"), [(0, 0), (0, 7), (7, 0), (3, 12), (5, 6), (40, 40), (900, 1100), (0, 3000)]
)
def test_the_p_value_is_that_of_a_binomial_test(gained: int, lost: int) -> None:
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert PairedCounts(gained, lost, 5000).p_value == pytest.approx(expected, rel=1e-9)


def test_without_a_difference_few_permutations_are_significant() -> None:
    random = np.random.default_rng(3)
    right_N, reference_N = pairs(random, 2000, 0.05, 0.09)
    p_values = []
    for _ in range(2000):
        swapped_N = random.random(2000) < 0.5
        one_N, other_N = np.where(swapped_N, [right_N, reference_N], [reference_N, right_N])
        p_values.append(PairedCounts.of(one_N, other_N).p_value)
    assert 0.03 < np.mean(np.array(p_values) <= 0.05) < 0.06  # the exact test is slightly conservative
    assert PairedCounts.of(right_N, reference_N).p_value < 0.001


def test_holm() -> None:
    assert significant([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]  # of Holm's steps 0.0125, 0.0167, 0.025
    assert significant([0.04]) == [True]
    assert significant([0.06, 0.04]) == [False, False]
    assert significant([]) == []
