"""Paired differences against a bootstrap, permutations and scipy."""

import base64
import zlib

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import binomtest, norm, t, ttest_ind

from phaze_ee.errors import UsageError
from phaze_ee.paired import Difference, PairedCounts, pack_bits, significant, unpack_bits

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
    ("gained", "lost"), [(0, 0), (0, 7), (7, 0), (3, 12), (5, 6), (5, 10), (40, 40), (900, 1100), (0, 3000)]
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
    assert significant([0.049, 0.012, 0.024, 0.016]) == [True, True, True, True]
    assert significant([0.04]) == [True]
    assert significant([0.06, 0.04]) == [False, False]
    assert significant([]) == []


def trainings(random: np.random.Generator, seeds: int, jets: int, spread: float) -> Right:
    """Return answers of several trainings: jets are easy or hard for all, trainings good or bad for all jets."""
    easy_N, good_S = random.normal(size=jets), random.normal(scale=spread, size=seeds)
    return easy_N + good_S[:, None] + 0.7 * random.normal(size=(seeds, jets)) > 0


def test_the_error_over_jets_is_that_of_a_bootstrap_also_with_seeds() -> None:
    random = np.random.default_rng(5)
    right_SN = trainings(random, 8, 600, 0.1)
    one_SN, other_TN = right_SN[:5], right_SN[5:]
    found = Difference.over_seeds(one_SN, other_TN)
    assert found.value == pytest.approx(one_SN.mean() - other_TN.mean())
    index_BN = random.integers(600, size=(4000, 600))
    resampled = one_SN.mean(axis=0)[index_BN].mean(axis=1) - other_TN.mean(axis=0)[index_BN].mean(axis=1)
    assert found.jets_error == pytest.approx(resampled.std(), rel=0.05)
    spread = np.hypot(one_SN.mean(axis=1).std(ddof=1), other_TN.mean(axis=1).std(ddof=1))
    assert found.spread == pytest.approx(spread)
    assert found.above_floor == (abs(found.value) > spread)


def test_answers_of_the_same_trainings_spread_as_their_differences() -> None:
    random = np.random.default_rng(6)
    reference_SN = trainings(random, 4, 500, 0.3)
    right_SN = reference_SN & (random.random((4, 500)) < 0.95)
    found = Difference.over_seeds(right_SN, reference_SN, same_seeds=True)
    differences_S = right_SN.mean(axis=1) - reference_SN.mean(axis=1)
    assert found.spread == pytest.approx(differences_S.std(ddof=1))
    assert found.spread < 0.5 * Difference.over_seeds(right_SN, reference_SN).spread  # type: ignore[operator]
    variance = differences_S.var(ddof=1) / 4 + found.jets_error**2
    degrees = 3 * variance**2 / (differences_S.var(ddof=1) / 4) ** 2
    assert found.p_value == pytest.approx(2 * t.sf(abs(found.value) / np.sqrt(variance), degrees))


@pytest.mark.parametrize("seeds", [(3, 3), (5, 2), (4, 1)])
def test_equal_methods_are_rarely_significant(seeds: tuple[int, int]) -> None:
    random = np.random.default_rng(7)
    p_values = []
    for _ in range(1500):
        right_SN = trainings(random, sum(seeds), 300, 0.1)
        p_values.append(Difference.over_seeds(right_SN[: seeds[0]], right_SN[seeds[0] :]).p_value)
    assert np.mean(np.array(p_values) <= 0.05) < 0.065
    assert np.mean(np.array(p_values) <= 0.1) > 0.02


def test_a_clear_difference_is_found_and_one_training_is_taken_to_spread_as_the_others() -> None:
    random = np.random.default_rng(8)
    right_SN = trainings(random, 6, 2000, 0.02)
    better_SN = right_SN[:5] | (random.random((5, 2000)) < 0.3)
    assert Difference.over_seeds(better_SN, right_SN[5:]).p_value < 0.001
    accuracy_S = better_SN.mean(axis=1)
    single = Difference.over_seeds(better_SN, right_SN[5:])
    assert single.spread == pytest.approx(np.sqrt(2) * accuracy_S.std(ddof=1))
    unpaired = Difference.unpaired(accuracy_S, right_SN[5:].mean(axis=1), 0.015)
    assert (unpaired.value, unpaired.spread) == pytest.approx((single.value, single.spread))
    assert unpaired.jets_error > single.jets_error


def test_over_seeds_alone_the_p_value_is_that_of_welchs_test() -> None:
    first_S, second_T = np.array([0.81, 0.83, 0.80, 0.84]), np.array([0.79, 0.82, 0.78])
    for own_T in (second_T, second_T[:2]):
        found = Difference.unpaired(first_S, own_T, 0.0)
        assert found.p_value == pytest.approx(ttest_ind(first_S, own_T, equal_var=False).pvalue)
    single = Difference.unpaired(first_S, second_T[:1], 0.0)  # taken to spread as the others: Student's test
    assert single.p_value == pytest.approx(ttest_ind(first_S, second_T[:1], equal_var=True).pvalue)


def test_the_jets_add_to_the_variance_of_seeds_and_alone_give_a_normal_test() -> None:
    first_S, second_T = np.array([0.81, 0.83, 0.80, 0.84]), np.array([0.79, 0.82, 0.78])
    own, other = first_S.var(ddof=1) / 4, second_T.var(ddof=1) / 3
    variance = own + other + 0.01**2
    degrees = variance**2 / (own**2 / 3 + other**2 / 2)
    found = Difference.unpaired(first_S, second_T, 0.01)
    assert found.p_value == pytest.approx(2 * t.sf(found.value / np.sqrt(variance), degrees))
    no_seeds = Difference.unpaired(first_S[:1], second_T[:1], 0.01)
    assert no_seeds == pytest.approx((0.02, 0.01, None, 2 * norm.sf(2)))
    assert no_seeds.above_floor


def test_without_any_variance_only_equal_accuracies_may_be_equal() -> None:
    assert Difference.unpaired(np.array([0.8]), np.array([0.8]), 0.0).p_value == 1
    assert Difference.unpaired(np.array([0.8]), np.array([0.7]), 0.0).p_value == 0


@pytest.mark.parametrize("jets", [1, 7, 8, 9, 1000])
def test_bits_are_unpacked_as_they_were_packed(jets: int) -> None:
    right_N = np.random.default_rng(jets).random(jets) < 0.8
    text = pack_bits(right_N)
    assert np.array_equal(unpack_bits(text, jets, "here"), right_N)
    assert len(pack_bits(np.ones(10_000_000, dtype=bool))) < 3000
    bomb = base64.b64encode(zlib.compress(bytes(50_000_000))).decode()
    for damaged in ("", "?", text[:-4], bomb, base64.b64encode(b"no").decode()):
        with pytest.raises(UsageError, match="here: right_jets are not those of"):
            unpack_bits(damaged, jets + 800, "here")
