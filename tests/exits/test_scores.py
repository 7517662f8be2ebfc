"""Exit scores on answers whose scores are known."""

import math
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from phaze_ee.errors import UsageError
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.scores import EXIT_SCORES, AnyExitScore, ExitScore, Gate, Patience, Window, log_odds, make_score

PARAMETERS: dict[str, dict[str, Any]] = {
    "gate": {"weight_EF": [[1.0, 2.0, 3.0, 4.0]] * 3, "bias_E": [-1.0, 0.0, 1.0]},
    "window": {"signal": 1, "background": 0, "cut": 0.5, "accept": 2.0},
    "fixed": {"exit": 1},
}
SCORES = {name: make_score(name, **PARAMETERS.get(name, {})) for name in EXIT_SCORES}


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
    value_N = make_score(score)(logits([0.7, 0.2, 0.1], [1 / 3] * 3))
    torch.testing.assert_close(value_N, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("score", ["confidence", "entropy", "margin"])
def test_a_certain_answer_scores_one_even_with_extreme_logits(score: str) -> None:
    value_N = make_score(score)(torch.tensor([[[1000.0, -1000.0, 0.0]]]))
    torch.testing.assert_close(value_N, torch.ones(1))


@pytest.mark.parametrize(
    "score", [score for score in SCORES.values() if not score.uses_history and score.name != "fixed"]
)
def test_scores_without_history_look_at_the_last_answer(score: ExitScore) -> None:
    first, second = logits([0.9, 0.05, 0.05]), logits([0.4, 0.3, 0.3])
    assert score(torch.cat([first, second])) == score(second)


def test_patience_counts_agreements_in_a_row() -> None:
    a, b = [0.9, 0.1], [0.1, 0.9]
    logits_ENK = torch.cat([logits(a, a, a), logits(a, b, a), logits(a, b, b)])
    assert [Patience()(logits_ENK[:count]).tolist() for count in (1, 2, 3)] == [[0, 0, 0], [1, 0, 1], [2, 1, 0]]


def test_the_gate_is_a_logistic_regression_per_exit() -> None:
    gate = Gate(weight_EF=[[0.0] * 4, [1.0, 0.0, 0.0, 2.0]], bias_E=[0.0, -1.0])
    logits_ENK = torch.cat([logits([0.9, 0.1], [0.9, 0.1]), logits([0.7, 0.3], [0.3, 0.7])])
    assert gate(logits_ENK[:1]).tolist() == [0.5, 0.5]
    expected = torch.tensor([0.7 + 2 - 1, 0.7 - 1], dtype=torch.float64).sigmoid()
    torch.testing.assert_close(gate(logits_ENK), expected, rtol=0, atol=1e-7)
    ThresholdPolicy(gate, [0.5, 0.5]).check(2)
    for weight_EF, bias_E in (([[0.0] * 4, [1.0] * 5], [0.0, 0.0]), ([[0.0] * 4] * 2, [0.0]), ([], [])):
        with pytest.raises(UsageError, match="each of 2 exits needs 4 weights and a bias"):
            ThresholdPolicy(Gate(weight_EF=weight_EF, bias_E=bias_E), [0.5, 0.5]).check(2)


def test_the_window_measures_the_distance_to_the_cut_in_log_odds() -> None:
    logits_ENK = torch.tensor([[[0.0, -3.0], [0.0, 0.5], [0.0, 4.0]]])
    assert log_odds(logits_ENK[0], 1, 0).tolist() == [-3.0, 0.5, 4.0]
    reject_only = Window(signal=1, background=0, cut=0.5)
    assert reject_only(logits_ENK).tolist() == [3.5, 0.0, -3.5]
    assert Window(signal=1, background=0, cut=0.5, accept=0.5)(logits_ENK).tolist() == [3.5, 0.0, 1.75]


@pytest.mark.parametrize("name", sorted(set(SCORES) - {"patience", "fixed"}))  # these count answers, whatever they are
def test_answers_that_are_not_numbers_never_look_sure(name: str) -> None:
    score = SCORES[name]
    value_N = score(torch.full((2, 1, 2), math.nan))
    assert not value_N >= -math.inf


@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
def test_scores_survive_json(score: ExitScore) -> None:
    adapter: TypeAdapter[ExitScore] = TypeAdapter(AnyExitScore)
    assert adapter.validate_json(score.model_dump_json()) == score


def test_mistakes_are_told() -> None:
    with pytest.raises(UsageError, match=r"unknown exit score 'confidense'.*confidence, entropy, margin"):
        make_score("confidense")
    with pytest.raises(UsageError, match="exit score 'window', parameter signal: field required"):
        make_score("window")
