"""Exact ranks of counts, and what is bet on them: uniform, independent, and never too rich by chance."""

import math

import numpy as np
import pytest
from scipy import stats

from phaze_ee.exits.drift import Distribution, DriftReference
from phaze_ee.exits.evidence import DriftEvidence
from phaze_ee.exits.ranks import _normal_rank, halves, increments, log_capital
from phaze_ee.exits.starts import share_of

BINS = 8


def sample(count_B: np.ndarray) -> DriftReference:
    own = Distribution(edges=list(map(float, range(len(count_B) - 1))), counts=count_B.tolist())
    return DriftReference(distributions={"x": own})


def tilted(size: float) -> np.ndarray:
    """Shares of bins; their mean differs from that of equal shares by ``size`` standard deviations."""
    place_B = np.arange(BINS) - (BINS - 1) / 2
    share_B: np.ndarray = (1 + size * place_B / place_B.std()) / BINS
    return share_B


def evidence(random: np.random.Generator, reference: int, sizes: list[float], block: int) -> DriftEvidence:
    seen = DriftEvidence.begin(sample(random.multinomial(reference, tilted(0))))
    for size in sizes:
        seen = seen.having(sample(random.multinomial(block, tilted(size))), str(random.integers(2**60)))
    return seen


@pytest.mark.parametrize("uniform", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("counts", [(3, 10, 20, 60), (0, 5, 0, 60), (5, 5, 60, 60), (2_510, 5_000, 50_000, 100_000)])
def test_ranks_are_those_of_the_hypergeometric_distribution(counts: tuple[int, ...], uniform: float) -> None:
    hits, drawn, all_hits, everything = counts
    known = stats.hypergeom(everything, all_hits, drawn)
    rank = known.cdf(hits - 1) + uniform * known.pmf(hits)
    found = stats.norm.cdf(_normal_rank(hits, drawn, all_hits, everything, uniform))
    assert found == pytest.approx(rank, rel=1e-9, abs=1e-12)


def test_a_rank_far_off_is_finite() -> None:
    assert -50 < _normal_rank(0, 10_000, 50_000, 100_000, 0.5) < -10
    assert 10 < _normal_rank(10_000, 10_000, 50_000, 100_000, 0.5) < 50


def test_ranks_of_many_jets_are_those_of_the_normal_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = (250_600, 1_000_000, 500_000, 2_000_000)  # 250,000 ± 306 of the jets drawn are expected
    exact = _normal_rank(*counts, 0.3)
    monkeypatch.setattr("phaze_ee.exits.ranks._LARGE", 9e4)
    normal = _normal_rank(*counts, 0.3)
    assert normal == pytest.approx(exact, abs=1e-5)
    assert normal != exact, "the same sum over the counts"
    assert exact > 1.5


def test_ranges_are_halved_until_each_is_one_bin() -> None:
    ranges = halves(5)
    rows = list(zip(ranges.first_H, ranges.middle_H, ranges.stop_H, ranges.level_H, strict=True))
    assert rows == [(0, 2, 5, 0), (0, 1, 2, 1), (2, 3, 5, 1), (3, 4, 5, 2)]
    assert len(halves(1).level_H) == 0
    count_B = np.array([1, 2, 3, 4, 5])
    assert ranges.jets(count_B).tolist() == [15, 3, 12, 9]
    assert ranges.lower(count_B).tolist() == [3, 1, 3, 4]


def test_increments_are_independent_normal_numbers() -> None:
    random = np.random.default_rng(1)
    sizes = (40, 30, 500)
    rows = []
    for _ in range(1_500):
        pool_B, row = random.multinomial(100, tilted(0.3)), []
        for size in sizes:
            block_B = random.multinomial(size, tilted(0.3))
            before_H, now_H = (halves(BINS).jets(count_B) for count_B in (pool_B, pool_B + block_B))
            scale_H = np.sqrt((now_H - before_H) / (before_H * now_H))
            row.append(increments(pool_B, block_B, random)[:3] / scale_H[:3])
            pool_B = pool_B + block_B
        rows.append(np.concatenate(row))
    z = np.array(rows)
    assert max(stats.kstest(column, "norm").pvalue < 1e-4 for column in z.T) == 0
    assert np.abs(np.corrcoef(z.T) - np.eye(z.shape[1])).max() < 0.12  # 4.6 standard deviations


def test_the_variances_of_increments_add_up() -> None:
    start_SB, now_B = np.array([[300, 100], [500, 500]]), np.array([900, 700])
    variance_S = np.array([400 * 1200 / 1600, 1000 * 600 / 1600])
    gain_SH = np.array([[0.01], [0.0]])
    expected = [
        np.logaddexp.reduce(
            [-math.log(1 + t * t * v) / 2 + t * t * y * y / 2 / (1 + t * t * v) for t in (0.03, 0.1, 0.3)]
        )
        - math.log(3)
        for v, y in zip(variance_S, (4.0, 0.0), strict=True)
    ]
    assert log_capital(start_SB, now_B, gain_SH) == pytest.approx(expected)


def test_false_alarms_are_rare_at_all_looks_together() -> None:
    random = np.random.default_rng(2)
    largest = np.array([evidence(random, 400, [0.0] * 12, 100).largest["x"] for _ in range(250)])
    assert (largest >= 1).sum() <= 25 + 14, "at most a tenth, within three standard deviations"
    assert (largest >= 2).sum() <= 2 + 5
    assert largest.max() > 0.3


@pytest.mark.parametrize("clean", [0, 20])
def test_a_change_is_found_whenever_it_comes(clean: int) -> None:
    seen = evidence(np.random.default_rng(3), 4_000, [0.0] * clean + [0.15] * 6, 1_000)
    assert seen.largest["x"] > 4
    assert len(seen.starts) < 12


def test_some_bets_are_kept_of_every_age() -> None:
    seen = evidence(np.random.default_rng(4), 50, [0.0] * 40, 5)
    ages = [40 - start.blocks for start in seen.starts]
    assert ages[0] == 40
    assert all(any(age <= kept <= 2 * age for kept in ages) for age in range(1, 40))


def test_the_evidence_is_the_decimal_logarithm_of_what_the_bets_have() -> None:
    random = np.random.default_rng(6)
    reference, block_B = sample(random.multinomial(500, tilted(0))), random.multinomial(200, tilted(0.5))
    seen = DriftEvidence.begin(reference).having(sample(block_B), "a file")
    start_B, gain_H = np.array(reference.distributions["x"].counts), np.array(seen.now.tallies["x"].sums)
    (log,) = log_capital(start_B[None], start_B + block_B, gain_H[None])
    assert seen.evidence["x"] == pytest.approx((log + math.log(share_of(0))) / math.log(10))
    assert seen.evidence["x"] > 0.5
    assert gain_H[0] < 0, "fewer jets in the lower half"


def test_stored_evidence_that_does_not_fit_is_refused() -> None:
    seen = evidence(np.random.default_rng(7), 100, [0.1] * 3, 50).model_dump(mode="json")
    assert DriftEvidence.model_validate(seen).largest.keys() == {"x"}
    other_start = {"blocks": 0, "tallies": {"y": seen["now"]["tallies"]["x"]}}
    short = {"blocks": 3, "tallies": {"x": {"counts": [1, 2, 3], "sums": [0.0]}}}
    more: dict[str, float] = {"x": 1.0, "y": 1.0}
    for name, value in {"starts": [other_start], "now": short, "evidence": {}, "largest": more}.items():
        with pytest.raises(ValueError, match=r"fit|one number for each histogram"):
            DriftEvidence.model_validate(seen | {name: value})


def test_the_evidence_can_be_stored_and_depends_on_the_order_of_files_alone() -> None:
    first, second = (evidence(np.random.default_rng(5), 100, [0.1] * 3, 50) for _ in range(2))
    assert first == second
    assert DriftEvidence.model_validate_json(first.model_dump_json()) == first
