"""Scores and thresholds: when a jet may leave."""

import math

import pytest
import torch
from torch import Tensor

from phaze_ee.errors import UsageError
from phaze_ee.exits.policies import EXIT_SCORES, ThresholdPolicy


def logits(*probabilities: list[float]) -> Tensor:
    return torch.tensor(probabilities, dtype=torch.float64).log()[None]


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        ("confidence", [0.7, 1 / 3]),
        ("margin", [0.5, 0.0]),
        ("entropy", [1 + (0.7 * math.log(0.7) + 0.2 * math.log(0.2) + 0.1 * math.log(0.1)) / math.log(3), 0.0]),
    ],
)
def test_scores_of_known_probabilities(score: str, expected: list[float]) -> None:
    value_N = EXIT_SCORES[score](logits([0.7, 0.2, 0.1], [1 / 3] * 3))
    torch.testing.assert_close(value_N, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("score", EXIT_SCORES)
def test_a_certain_answer_scores_one_even_with_extreme_logits(score: str) -> None:
    value_N = EXIT_SCORES[score](torch.tensor([[[1000.0, -1000.0, 0.0]]]))
    torch.testing.assert_close(value_N, torch.ones(1))


@pytest.mark.parametrize("score", EXIT_SCORES)
def test_scores_look_at_the_last_answer(score: str) -> None:
    first, second = logits([0.9, 0.05, 0.05]), logits([0.4, 0.3, 0.3])
    assert EXIT_SCORES[score](torch.cat([first, second])) == EXIT_SCORES[score](second)


def test_a_jet_leaves_at_its_threshold_and_each_exit_has_its_own() -> None:
    policy = ThresholdPolicy("margin", [0.5, 0.25])
    answer = torch.tensor([[[0.0, 0.0], [100.0, 0.0]]])
    assert policy(answer).tolist() == [False, True]
    assert ThresholdPolicy("confidence", [0.5])(answer).tolist() == [True, True]
    two = logits([0.65, 0.35]).repeat(2, 1, 1)
    assert (policy(two[:1]).item(), policy(two).item()) == (False, True)


def test_infinite_thresholds_and_undefined_scores() -> None:
    certain = torch.tensor([[[100.0, 0.0]]])
    assert not ThresholdPolicy("confidence", [math.inf])(certain)
    assert ThresholdPolicy("confidence", [-math.inf])(certain)
    assert not ThresholdPolicy("confidence", [-math.inf])(torch.full((1, 1, 2), math.nan))


def test_mistakes_are_told() -> None:
    with pytest.raises(UsageError, match=r"unknown exit score 'confidense'.*confidence, entropy, margin"):
        ThresholdPolicy("confidense", [0.5])
    with pytest.raises(UsageError, match="not a number"):
        ThresholdPolicy("margin", [0.5, math.nan])
    with pytest.raises(UsageError, match="2 thresholds, the tagger 3 exits"):
        ThresholdPolicy("margin", [0.5, 0.5]).check(3)
