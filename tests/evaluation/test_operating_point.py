import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phaze_ee.evaluation.operating_point import confidence, cost_accuracy_area, fraction, operating_point
from phaze_ee.results.policy import OperatingPoint
from tests.evaluation.answers import random_answers, saying, tagger_with


def test_mixture_of_hand_made_answers() -> None:
    answers = saying([[0, 1, 2, 0], [1, 1, 1, 1], [0, 2, 1, 0]], label_N=[0, 1, 1, 1])
    point = operating_point(answers, np.array([0, 1, 2, 2]), None, "label_QCD")
    macs_EN = tagger_with(2).exit_macs(torch.tensor([1, 2, 3, 4])).double()
    assert point.accuracy == 0.75
    assert point.accuracy_error == pytest.approx(np.sqrt(0.75 * 0.25 / 4))
    assert point.exit_fractions == [0.25, 0.25, 0.5]
    assert point.mean_macs == (macs_EN[0, 0] + macs_EN[1, 1] + macs_EN[2, 2] + macs_EN[2, 3]) / 4
    assert [(rejection.signal, rejection.signal_efficiency) for rejection in point.rejections] == [
        ("label_Hbb", 0.5), ("label_Other", 0.5),
    ]  # fmt: skip


def test_the_share_refers_to_the_full_model_without_heads() -> None:
    answers = saying([[0], [0], [0]], label_N=[0])
    assert operating_point(answers, np.array([2]), (), None).macs_share == 1
    assert operating_point(answers, np.array([2]), (0,), None).macs_share > 1
    assert (
        operating_point(answers, np.array([2]), (0, 1), None).macs_share
        > operating_point(answers, np.array([2]), (0,), None).macs_share
    )


def test_temperatures_are_applied_once() -> None:
    answers = random_answers(50)
    tempered = answers.tempered((2.0, 4.0, 0.5))
    for index, temperature in enumerate((2.0, 4.0, 0.5)):
        np.testing.assert_allclose(tempered.logits_ENK[index], answers.logits_ENK[index] / temperature)
    np.testing.assert_array_equal(answers.tempered(None).logits_ENK, answers.logits_ENK)


def test_confidence() -> None:
    np.testing.assert_allclose(confidence(np.log([[0.2, 0.7, 0.1], [0.5, 0.25, 0.25]])), [0.7, 0.5])
    assert confidence(np.array([[1000.0, 0, 0]])) == 1


@given(st.integers(1, 1000), st.data())
def test_fraction(count: int, data: st.DataObject) -> None:
    chosen = data.draw(st.integers(0, count))
    found = fraction(np.arange(count) < chosen)
    assert found.value == pytest.approx(chosen / count)
    assert found.error == pytest.approx(np.sqrt(chosen * (count - chosen) / count**3))


def at(share: float, accuracy: float) -> OperatingPoint:
    return OperatingPoint(
        mean_macs=share, macs_share=share, accuracy=accuracy, accuracy_error=0, rejections=[], exit_fractions=[]
    )


def test_area_of_a_hand_made_curve() -> None:
    # From (0.2, 0.4) straight to (0.6, 0.8), then flat to 1: mean accuracy (0.4·0.6 + 0.4·0.8)/0.8.
    points = [at(0.6, 0.8), at(0.4, 0.6), at(0.1, 0.99), at(1.1, 0.0)]
    assert cost_accuracy_area(points, at(0.2, 0.4), at(1, 0.8)) == pytest.approx(0.7)
    assert cost_accuracy_area([], at(0.2, 0.4), at(1, 0.8)) == pytest.approx(0.6)
    assert cost_accuracy_area([], at(1, 0.4), at(1, 0.8)) is None


@given(st.lists(st.floats(0, 2), max_size=20), st.floats(0.01, 0.99), st.floats(0, 1))
def test_area_of_a_flat_curve_is_its_accuracy(shares: list[float], first: float, accuracy: float) -> None:
    points = [at(share, accuracy) for share in shares]
    assert cost_accuracy_area(points, at(first, accuracy), at(1, accuracy)) == pytest.approx(accuracy)
