import numpy as np
import pytest

from phaze_ee.evaluation.audits import SignalCut, divergences, kept, mass_audit, mass_shape
from tests.evaluation.answers import CLASSES, answers, random_answers

HALF = SignalCut("label_Hbb", "label_QCD", 0.5)


def test_divergence_is_0_for_equal_shapes_and_1_for_shapes_apart() -> None:
    reference = np.array([10, 20, 0, 0])
    found = divergences(np.array([[1, 2, 0, 0], [0, 0, 5, 1], [10, 0, 0, 0]]), reference)
    assert found[:2] == pytest.approx([0, 1])
    # p = (1, 0), q = (1/3, 2/3), m = (2/3, 1/3): (log2(3/2) + (1/3)·log2(1/2) + (2/3)·log2(2))/2
    assert found[2] == pytest.approx((np.log2(1.5) - 1 / 3 + 2 / 3) / 2)


def test_a_random_selection_diverges_no_more_than_random_ones() -> None:
    random = np.random.default_rng(3)
    shape = mass_shape(random.integers(0, 20, 2_000), random.random(2_000) < 0.1)
    assert shape.divergence is not None
    assert shape.floor is not None
    assert shape.floor_95 is not None
    assert shape.p_value is not None
    assert shape.p_value > 0.01
    assert 0.5 * shape.floor < shape.divergence < 1.2 * shape.floor_95
    assert sum(shape.counts) == shape.jets == pytest.approx(200, abs=50)


def test_a_selection_by_mass_diverges() -> None:
    bin_N = np.arange(2_000) % 20
    shape = mass_shape(bin_N, bin_N > 9)
    assert shape.divergence == pytest.approx(1 - 0.75 * np.log2(3) + 0.5)  # half of the bins, flat
    assert shape.p_value == pytest.approx(1 / 1001)


def test_no_jet_kept() -> None:
    shape = mass_shape(np.zeros(100, dtype=int), np.zeros(100, dtype=bool))
    assert (shape.jets, shape.divergence, shape.p_value) == (0, None, None)


@pytest.mark.parametrize(("efficiency", "expected"), [(0.5, 2), (0.25, 1), (0.51, 3), (1.0, 4), (1e-9, 1)])
def test_the_cut_is_the_tightest_that_keeps_so_much_signal(efficiency: float, expected: int) -> None:
    logits_NK = np.zeros((5, 3))
    logits_NK[:, 1] = [4, 3, 2, 1, 2.5]
    signal_N = np.array([True] * 4 + [False])
    kept_N = kept(logits_NK, CLASSES, signal_N, SignalCut("label_Hbb", "label_QCD", efficiency))
    assert kept_N[:4].sum() == expected
    assert kept_N[4] == (expected > 2)


def test_audit_of_a_tagger_that_leaves_by_mass() -> None:
    sample = random_answers(3_000, quality=(0, 3))
    mass_N = sample.observers["jet_sdmass"].astype(float)
    some = answers(sample.logits_ENK, sample.label_N)
    # Exit 0 knows nothing: who leaves there passes as often as not. Light jets leave there.
    audit = mass_audit(some, (mass_N > 60).astype(int), mass_N, HALF)
    assert audit is not None
    assert audit.full_model.p_value is not None
    assert audit.mixture.p_value is not None
    assert audit.full_model.p_value > 0.01 > audit.mixture.p_value
    background = int((sample.label_N == 0).sum())
    assert sum(audit.uncut_counts) == background
    assert len(audit.edges) == len(audit.uncut_counts) + 1


def test_audit_needs_both_classes_and_masses() -> None:
    sample = random_answers(200)
    mass_N = sample.observers["jet_sdmass"].astype(float)
    everywhere = np.zeros(200, dtype=int)
    some = answers(sample.logits_ENK, sample.label_N)
    assert mass_audit(some, everywhere, np.full(200, np.nan), HALF) is None
    no_signal = answers(sample.logits_ENK, np.where(sample.label_N == 1, 2, sample.label_N))
    assert mass_audit(no_signal, everywhere, mass_N, HALF) is None
    assert mass_audit(some, everywhere, mass_N, HALF) is not None
