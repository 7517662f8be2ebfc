import numpy as np
import pytest

from phaze_ee.evaluation.metrics import confidence_bins, expected_calibration_error


def test_hand_made_bins() -> None:
    # Bins of width 1/15: 0.5 lies in (7/15, 8/15], 0.95 and 0.97 in (14/15, 1].
    # First bin: 2 jets, confidence 0.5, accuracy 1/2: no gap. Second: 2 jets, accuracy 1/2, confidence 0.96: gap 0.46.
    confidence_N = np.array([0.5, 0.5, 0.95, 0.97])
    correct_N = np.array([True, False, True, False])
    assert expected_calibration_error(confidence_N, correct_N) == pytest.approx(0.5 * 0.46)


def test_gaps_of_one_bin_cancel_and_those_of_different_bins_do_not() -> None:
    correct_N = np.array([True, False])
    assert expected_calibration_error(np.array([0.5, 0.5]), correct_N) == pytest.approx(0)
    assert expected_calibration_error(np.array([0.6, 0.4]), correct_N) == pytest.approx(0.4)


def test_bins_are_closed_above() -> None:
    # 1/5 is the upper edge of the third bin, 0.19 lies in the same bin, 0.21 in the next.
    correct_N = np.array([True, False])
    together = expected_calibration_error(np.array([0.19, 0.2]), correct_N)
    apart = expected_calibration_error(np.array([0.21, 0.2]), correct_N)
    assert together == pytest.approx((1 - 0.39) / 2)
    assert apart == pytest.approx((0.79 + 0.2) / 2)


@pytest.mark.parametrize(("correct", "expected"), [(True, 0.0), (False, 1.0)])
def test_full_confidence_of_a_single_jet(correct: bool, expected: float) -> None:
    assert expected_calibration_error(np.array([1.0]), np.array([correct])) == expected


def test_bins_of_confidence_that_have_jets() -> None:
    found = confidence_bins(np.array([0.95, 0.3, 0.99, 0.32]), np.array([True, False, True, True]))
    assert [one.jets for one in found] == [2, 2]
    assert [one.confidence for one in found] == pytest.approx([0.31, 0.97])
    assert [one.accuracy for one in found] == pytest.approx([0.5, 1.0])
