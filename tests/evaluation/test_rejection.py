from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from phaze_ee.data.schema import choose_background
from phaze_ee.errors import UsageError
from phaze_ee.evaluation.rejection import (
    JETCLASS_EFFICIENCIES,
    Discrimination,
    discriminate,
    rejection_at,
    thinned,
    working_points,
)

CLASSES = ("label_QCD", "label_Hbb", "label_Other")


def against_qcd(background_scores: npt.ArrayLike, signal_scores: npt.ArrayLike) -> Discrimination:
    """Return Hbb against QCD where the logit of S/(S+QCD) takes the given values."""
    background, signal = np.asarray(background_scores, float), np.asarray(signal_scores, float)
    logits_NK = np.zeros((len(background) + len(signal), 3))
    logits_NK[:, 1] = np.concatenate([background, signal])
    label_N = np.repeat([0, 1], [len(background), len(signal)])
    curve = discriminate(logits_NK, label_N, CLASSES, "label_Hbb", "label_QCD")
    assert curve is not None
    return curve


def exponential_quantiles(scale: float, count: int) -> npt.NDArray[np.float64]:
    return -scale * np.log1p(-(np.arange(count) + 0.5) / count)


@pytest.mark.parametrize("efficiency", [0.5, 0.2, 0.9])
def test_exponential_scores_have_the_analytic_rejection(efficiency: float) -> None:
    # Scores above t: exp(-t/2) of the signal and exp(-t) of the background, so the background efficiency is the square
    # of the signal's: rejection 1/efficiency². Quantiles instead of random numbers leave only the grid's error.
    curve = against_qcd(exponential_quantiles(1.0, 40_000), exponential_quantiles(2.0, 40_000))
    rejection = rejection_at(curve, efficiency)
    passing = efficiency**2
    assert rejection.value == pytest.approx(1 / passing, rel=1e-3)
    assert rejection.error == pytest.approx(np.sqrt(passing * (1 - passing) / 40_000) / passing**2, rel=1e-3)
    assert rejection.lower_limit is None


def test_definition_on_ten_jets() -> None:
    # Half of the four signal jets lies above 2.5; of the background jets 3 of 6 do (3, 4 and 6).
    curve = against_qcd([0, 1, 2, 3, 4, 6], [1.5, 2.5, 5, 7])
    rejection = rejection_at(curve, 0.75)
    assert rejection.value == pytest.approx(2.0)
    assert rejection_at(curve, 0.5).value == pytest.approx(6.0)


def test_of_several_cuts_with_the_same_signal_efficiency_the_tightest_counts() -> None:
    # Between the signal jets at 9 and 1 lie two background jets; the cut that keeps one of two signal jets need not
    # let any of them pass.
    curve = against_qcd([2, 3], [1, 9])
    assert rejection_at(curve, 0.5).value is None
    assert rejection_at(curve, 0.51).value == pytest.approx(1.0)


def test_between_two_points_the_background_efficiency_is_interpolated() -> None:
    # Two signal and two background jets share one score: the curve runs straight from (0, 0) to (1, 1).
    curve = against_qcd([1, 1], [1, 1])
    assert rejection_at(curve, 0.5).value == pytest.approx(2.0)
    assert rejection_at(curve, 0.25).value == pytest.approx(4.0)


def test_no_background_jet_passes() -> None:
    # With 100 background jets and none passing, ε with (1-ε)^100 = 0.32 is excluded at 68 %.
    rejection = rejection_at(against_qcd(np.zeros(100), np.ones(100)), 0.5)
    assert (rejection.value, rejection.error) == (None, None)
    assert rejection.lower_limit is not None
    assert (1 - 1 / rejection.lower_limit) ** 100 == pytest.approx(0.32)


def test_confident_jets_are_not_ties() -> None:
    # As probabilities both differences round to 1.
    curve = against_qcd([50], [60])
    assert rejection_at(curve, 0.5).value is None


def test_jets_are_ranked_by_the_signal_over_the_sum_of_both_classes() -> None:
    random = np.random.default_rng(8)
    logits_NK, label_N = random.normal(size=(500, 3)), random.integers(0, 2, 500)
    curve = discriminate(logits_NK, label_N, CLASSES, "label_Hbb", "label_QCD")
    assert curve is not None
    probability_NK = np.exp(logits_NK) / np.exp(logits_NK).sum(axis=1, keepdims=True)
    score_N = probability_NK[:, 1] / (probability_NK[:, 1] + probability_NK[:, 0])
    assert np.trapezoid(curve.signal_efficiency, curve.background_efficiency) == pytest.approx(
        roc_auc_score(label_N, score_N)
    )


def test_jets_of_other_classes_do_not_count() -> None:
    logits_NK = np.array([[0.0, 1, 0], [0, 2, 0], [0, 9, 0]])
    curve = discriminate(logits_NK, np.array([0, 1, 2]), CLASSES, "label_Hbb", "label_QCD")
    assert curve is not None
    assert curve.background_count == 1
    assert rejection_at(curve, 0.5).value is None


@pytest.mark.parametrize("label", [0, 1, 2])
def test_without_jets_of_both_classes_there_is_no_curve(label: int) -> None:
    assert discriminate(np.zeros((1, 3)), np.array([label]), CLASSES, "label_Hbb", "label_QCD") is None


def test_working_points_of_jetclass() -> None:
    jetclass = ["label_QCD", *reversed(JETCLASS_EFFICIENCIES)]
    points = working_points(jetclass, "label_QCD")
    assert len(points) == 9
    assert {name: value for name, value in points.items() if value != 0.5} == {"label_Hqql": 0.99, "label_Tbl": 0.995}


@pytest.mark.parametrize(
    ("class_names", "background"),
    [(["label_QCD", "label_Hqql"], "label_QCD"), (["label_QCD", *JETCLASS_EFFICIENCIES], "label_Hbb")],
)
def test_working_points_elsewhere(class_names: list[str], background: str) -> None:
    points = working_points(class_names, background)
    assert points == dict.fromkeys([name for name in class_names if name != background], 0.5)


def test_background() -> None:
    assert choose_background(CLASSES, None) == "label_QCD"
    assert choose_background(("a", "b"), None) is None
    assert choose_background(("a", "b"), "b") == "b"
    with pytest.raises(UsageError, match=r"'label_QDC'.*did you mean 'label_QCD'"):
        choose_background(CLASSES, "label_QDC")


@given(st.integers(0, 2**32 - 1), st.integers(2, 3_000), st.integers(2, 3_000))
def test_thinned_curve(seed: int, background_count: int, signal_count: int) -> None:
    random = np.random.default_rng(seed)
    curve = against_qcd(random.normal(0, 1, background_count), random.normal(1, 1, signal_count))
    thin = thinned(curve)
    points = list(zip(thin.signal_efficiency, thin.background_efficiency, strict=True))
    assert 2 <= len(points) <= 200
    assert [points[0], points[-1]] == [(0, 0), (1, 1)]
    assert all(before[0] <= after[0] and before[1] <= after[1] for before, after in pairwise(points))
    apart = np.abs(np.subtract.outer(curve.background_efficiency, thin.background_efficiency))
    apart += np.abs(np.subtract.outer(curve.signal_efficiency, thin.signal_efficiency))
    assert apart.min(axis=0).max() < 1e-7  # every point lies on the curve, up to the digits written


def test_thinned_curve_keeps_the_area() -> None:
    curve = against_qcd(exponential_quantiles(1, 20_000), exponential_quantiles(2, 20_000))
    thin = thinned(curve)
    # ∫ efficiency² over the signal efficiency is 1/3.
    assert np.trapezoid(thin.background_efficiency, thin.signal_efficiency) == pytest.approx(1 / 3, rel=1e-3)
