"""Policies: thresholds, temperatures, which exits are offered, and the offline simulation."""

import math

import pytest
import torch

from phaze_ee.errors import UsageError
from phaze_ee.exits.policies import ThresholdPolicy, exit_index, temper
from phaze_ee.exits.scores import FixedExit
from tests.exits.test_scores import logits


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
    with pytest.raises(UsageError, match="contain NaN"):
        ThresholdPolicy("margin", [0.5, math.nan])
    with pytest.raises(UsageError, match="2 thresholds, the tagger 3 exits"):
        ThresholdPolicy("margin", [0.5, 0.5]).check(3)


def test_only_exits_that_let_jets_leave_are_offered_unless_the_score_looks_back() -> None:
    thresholds = [math.inf, 0.5, math.inf]
    assert ThresholdPolicy("confidence", thresholds).exits == (1,)
    assert ThresholdPolicy("patience", thresholds).exits == (0, 1)
    assert ThresholdPolicy("patience", [math.inf] * 3).exits == ()


def test_the_simulation_takes_the_first_exit_that_lets_a_jet_go() -> None:
    sure, unsure = [0.9, 0.1], [0.6, 0.4]
    logits_ENK = torch.cat([logits(unsure, sure, unsure), logits(sure, sure, unsure), logits(unsure, sure, sure)])
    assert exit_index(ThresholdPolicy("confidence", [0.8, 0.8]), logits_ENK).tolist() == [1, 0, 2]
    assert exit_index(ThresholdPolicy(FixedExit(exit=1), [0.5, 0.5]), logits_ENK).tolist() == [1, 1, 1]


def test_temperatures_divide_the_logits_of_their_exit() -> None:
    logits_ENK = torch.ones(3, 1, 2)
    policy = ThresholdPolicy("confidence", [0.5, 0.5], temperatures=[1.0, 2.0, 4.0])
    assert temper(logits_ENK, policy.temperatures)[:, 0, 0].tolist() == [1.0, 0.5, 0.25]
    assert temper(logits_ENK, None) is logits_ENK


def test_a_cap_ends_the_walk_at_its_exit() -> None:
    policy = ThresholdPolicy("confidence", [0.8, 0.9, 0.5], temperatures=[1.0, 2.0, 3.0, 4.0]).capped(1)
    assert policy.thresholds == (0.8, -math.inf, math.inf)
    assert policy.temperatures == (1.0, 2.0, 3.0, 4.0)
    unsure = logits([0.6, 0.4]).repeat(4, 1, 1)
    assert exit_index(policy, unsure).tolist() == [1]
    with pytest.raises(UsageError, match="no exit 3 to stop at; the policy has exits 0 to 2"):
        ThresholdPolicy("confidence", [0.8, 0.9, 0.5]).capped(3)


def test_wrong_temperatures_are_told() -> None:
    with pytest.raises(UsageError, match=r"temperatures \[1.0, 0.0\] must all be positive"):
        ThresholdPolicy("confidence", [0.5], temperatures=[1.0, 0.0])
    with pytest.raises(UsageError, match="1 temperatures; give one for each of 1 exits and one for the full model"):
        ThresholdPolicy("confidence", [0.5], temperatures=[1.0]).check(1)
