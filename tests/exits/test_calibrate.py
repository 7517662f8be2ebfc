"""Calibration on answers whose risks are known: promises, fall-backs, and what is refused."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from phaze_ee.errors import DataError, UsageError
from phaze_ee.exits.answers import Answers, at_exit
from phaze_ee.exits.calibrate import Calibration, Settings, calibrate
from phaze_ee.exits.candidates import cost_curve
from phaze_ee.exits.conditions import Conditions
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.promise import figures, guarantee, policy_file
from phaze_ee.exits.scores import log_odds, make_score
from phaze_ee.exits.shortfall import CHEAPER
from phaze_ee.exits.targets import (
    AccuracyDrop,
    Agreement,
    Budget,
    NetAccuracyDrop,
    SignalEfficiency,
    Target,
    wrong_answers,
)
from phaze_ee.results.base import Provenance
from tests.exits.synthetic import SHARPNESS, costs_of, synthetic_answers

JETS = synthetic_answers(4000)
HARD_JETS = synthetic_answers(4000, sharpness=(0.8, 1.6, 2.4))  # of which the full model, too, mistakes some
WORKING_POINT: dict[str, Any] = {
    "epsilon": 0.05,
    "signal": "label_Hbb",
    "background": "label_QCD",
    "efficiency": 0.5,
    "background_growth": 0.5,
}
TARGETS: dict[str, Target] = {
    "accuracy_drop": AccuracyDrop(epsilon=0.02),
    "net_accuracy_drop": NetAccuracyDrop(epsilon=0.02),
    "agreement": Agreement(epsilon=0.02),
    "reject": SignalEfficiency(form="reject", **WORKING_POINT),
    "two_sided": SignalEfficiency(form="two_sided", **WORKING_POINT | {"efficiency": 0.9}),
}
SCORES = ["confidence", "entropy", "margin", "gate"]


def cost_of(result: Calibration, jets: Answers) -> float:
    return jets.costs.mean(jets.tempered(result.policy.temperatures).exit_index(result.policy))


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("method", ["ltt", "crc"])
def test_something_is_saved_and_the_risk_is_kept_on_other_jets(target: Target, method: Any) -> None:
    two_sided = target is TARGETS["two_sided"]
    if method == "crc" and isinstance(target, NetAccuracyDrop):
        with pytest.raises(UsageError, match="use risk_control = 'ltt'"):
            calibrate(JETS, Settings(target, method=method))
        return
    result = calibrate(HARD_JETS if two_sided else JETS, Settings(target, method=method))
    assert result.reason is None
    others = synthetic_answers(20_000, 2, (0.8, 1.6, 2.4) if two_sided else SHARPNESS)
    tempered = others.tempered(result.policy.temperatures)
    index_N = tempered.exit_index(result.policy)
    for risk in result.target.risks(tempered):
        lost, count = risk.observed(index_N)
        assert lost / count <= risk.epsilon + 3 * math.sqrt(risk.epsilon / count)
    assert cost_of(result, others) < 0.9
    assert guarantee(result, method, 0.05).holds


@pytest.mark.parametrize("score", SCORES)
def test_every_score_saves_something(score: str) -> None:
    result = calibrate(JETS, Settings(AccuracyDrop(epsilon=0.02), score=score))
    assert result.policy.score.name == score
    assert cost_of(result, synthetic_answers(4000, seed=2)) < 0.9


def above_the_cut(result: Calibration) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Which of the testing jets are accepted by what they get where they leave, and where that is."""
    assert isinstance(result.target, SignalEfficiency)
    index_N = result.testing.exit_index(result.policy)
    final_NK = torch.from_numpy(result.testing.mixture(index_N))
    return log_odds(final_NK, 1, 0).numpy() >= result.target.cut, index_N


def test_jets_that_leave_below_the_cut_are_never_accepted() -> None:
    above_N, index_N = above_the_cut(calibrate(JETS, Settings(TARGETS["reject"])))
    assert not above_N[index_N < 2].any()
    assert (index_N < 2).any()


def test_in_the_two_sided_form_jets_leave_on_both_sides() -> None:
    result = calibrate(HARD_JETS, Settings(TARGETS["two_sided"]))
    above_N, index_N = above_the_cut(result)
    assert (above_N & (index_N < 2)).any()
    assert (~above_N & (index_N < 2)).any()
    assert result.risks[1].epsilon == pytest.approx(1 / 3)
    assert (
        "accepted label_QCD grows by at most 0.5 of it (0.333 of what one of the two accepts), with"
        in guarantee(result, "ltt", 0.05, Conditions()).statement
    )


def test_a_budget_is_kept_and_used() -> None:
    result = calibrate(JETS, Settings(Budget(cost=0.4)))
    assert cost_of(result, JETS) == pytest.approx(0.4, abs=0.03)
    assert cost_of(result, JETS) <= 0.4
    assert not guarantee(result, "ltt", 0.05).holds


def test_a_budget_below_the_first_exit_is_told() -> None:
    result = calibrate(JETS, Settings(Budget(cost=0.01)))
    assert result.policy.exits == ()
    assert "its first exit costs 0.1" in str(result.reason)


@pytest.mark.parametrize("count", [1, 2, 30])
def test_too_few_jets_give_the_full_model_and_say_how_many_it_takes(count: int) -> None:
    result = calibrate(synthetic_answers(count), Settings(Agreement(epsilon=0.01), temperatures=False))
    assert result.policy.exits == ()
    assert result.policy.temperatures is None
    if count == 30:
        assert "at this rate it takes 299 such jets, about 469 more calibration jets" in str(result.reason)
        assert result.more_jets == 469  # 18 of the 30 jets test the policy
    assert not guarantee(result, "ltt", 0.05).holds


def test_a_working_point_without_background_is_told() -> None:
    few = JETS.select(np.flatnonzero((JETS.label_N != 0) | (np.arange(len(JETS)) < 60)))
    result = calibrate(few, Settings(TARGETS["two_sided"]))
    assert "background added: none of the jets that test the policy counts" in str(result.reason)


def test_a_policy_that_saves_nothing_on_other_jets_says_so() -> None:
    settings = Settings(Agreement(epsilon=0.02))
    result = calibrate(JETS, settings)

    def notes(head: float) -> list[str]:
        costs = costs_of(np.tile([[0.1], [0.3], [1.0]], len(result.testing)), head)
        other = replace(result, testing=replace(result.testing, costs=costs))
        return policy_file(other, settings, Provenance("W/p", "", "", [], []), held_out_of_validation=False).notes

    assert notes(head=0.01) == []
    (note,) = notes(head=0.7)
    assert note.startswith("the policy is not shown to save anything: it costs 1")
    assert "% of the full model on the jets that test it" in note
    assert note.endswith("use the full model, or " + CHEAPER)
    full = replace(result, policy=ThresholdPolicy(result.policy.score, [math.inf] * 2))
    assert policy_file(full, settings, Provenance("W/p", "", "", [], []), held_out_of_validation=False).notes == []


def test_exits_that_cost_more_than_the_network_get_a_remedy_that_helps() -> None:
    def reason(trunk: tuple[float, ...], head: float) -> str:
        costs = costs_of(np.tile(np.array(trunk)[:, None], len(JETS)), head)
        return str(calibrate(replace(JETS, costs=costs), Settings(AccuracyDrop(epsilon=1e-6))).reason)

    assert reason((0.1, 0.3, 1.0), 1.2) == f"the cheapest exit costs 130 % of the full model; {CHEAPER}"
    assert "train the exits longer" in reason((0.1, 0.3, 1.0), 0.8)  # the first of them costs less


def test_jets_that_all_score_the_same_cannot_be_told_apart() -> None:
    same = replace(JETS, logits_ENK=np.zeros_like(JETS.logits_ENK))
    result = calibrate(same, Settings(Agreement(epsilon=0.01)))
    assert result.reason is None  # all exits say what the full model says
    assert cost_of(result, same) == pytest.approx(float(same.costs.all_heads_EN[0].mean()))
    with pytest.raises(DataError, match=r"reaches no signal efficiency of 0\.5 for label_Hbb"):
        calibrate(same, Settings(TARGETS["reject"]))


def test_a_network_without_exits_is_its_own_policy() -> None:
    alone = JETS.with_exits([])
    result = calibrate(alone, Settings(AccuracyDrop(epsilon=0.02)))
    assert result.policy.thresholds == ()
    assert "no exit saves anything" in str(result.reason)


def test_exits_that_know_nothing_are_not_used() -> None:
    useless = synthetic_answers(3000, sharpness=(0.0, 0.0, 5.0))
    assert calibrate(useless, Settings(AccuracyDrop(epsilon=0.001))).policy.exits == ()


def test_labels_are_needed_but_for_agreement() -> None:
    unlabelled = replace(JETS, label_N=np.full(len(JETS), -1))
    result = calibrate(unlabelled, Settings(Agreement(epsilon=0.02)))
    assert result.reason is None
    assert result.policy.temperatures is None
    assert calibrate(unlabelled, Settings(Agreement(epsilon=0.02), score="gate")).reason is None
    with pytest.raises(DataError, match="needs the true classes, which 1600 of 1600 jets lack"):
        calibrate(unlabelled, Settings(AccuracyDrop(epsilon=0.02)))


def test_a_class_that_is_missing_is_told() -> None:
    without = JETS.select(np.flatnonzero(JETS.label_N != 1))
    with pytest.raises(DataError, match="hold no jet of label_Hbb"):
        calibrate(without, Settings(TARGETS["reject"]))


def test_scores_that_do_not_suit_the_target_are_refused() -> None:
    with pytest.raises(UsageError, match="'window' needs exit_target = 'signal_efficiency'"):
        calibrate(JETS, Settings(AccuracyDrop(epsilon=0.02), score="window"))
    with pytest.raises(UsageError, match="takes exit_score = 'window', not 'margin'"):
        calibrate(JETS, Settings(TARGETS["reject"], score="margin"))


def test_temperatures_undo_what_was_done_to_the_logits() -> None:
    scaled = replace(JETS, logits_ENK=JETS.logits_ENK * np.array([2.0, 1.0, 0.5])[:, None, None])
    plain, changed = (
        calibrate(jets, Settings(AccuracyDrop(epsilon=0.02))).policy.temperatures for jets in (JETS, scaled)
    )
    assert plain is not None
    assert changed is not None
    np.testing.assert_allclose(np.divide(changed, plain), [2.0, 1.0, 0.5], rtol=1e-3)


def test_a_seed_repeats_the_policy_and_another_does_not() -> None:
    first, again, other = (calibrate(JETS, Settings(AccuracyDrop(epsilon=0.02), seed=seed)) for seed in (1, 1, 2))
    assert first.policy.thresholds == again.policy.thresholds != other.policy.thresholds


def test_the_prior_weighs_costs_and_accuracies() -> None:
    result = calibrate(JETS, Settings(AccuracyDrop(epsilon=0.02)))
    jets, index_N = result.testing, result.testing.exit_index(result.policy)
    qcd = figures(jets, result.policy, {"label_QCD": 2.0})
    own_N = jets.label_N == 0
    cost_EN = jets.costs.all_heads_EN
    spent = at_exit(cost_EN, index_N)[own_N].mean() / cost_EN[-1][own_N].mean()
    assert qcd.cost_share == pytest.approx(spent)
    assert qcd.accuracy == pytest.approx(at_exit(jets.correct_EN, index_N)[own_N].mean())
    assert sum(qcd.exit_shares.values()) == pytest.approx(1.0)
    with pytest.raises(UsageError, match="class_prior names label_X"):
        figures(jets, result.policy, {"label_X": 1.0})


def test_curves_rise_in_cost_and_end_at_the_full_model() -> None:
    errors = wrong_answers(JETS)
    for name in ("confidence", "patience"):
        curve = cost_curve(make_score(name), JETS, errors, 8)
        costs = [candidate.cost for candidate in curve]
        assert costs == sorted(costs)
        assert curve[-1].policy.exits == ()
        assert 2 <= len(curve) <= 8
        risks = [candidate.risk for candidate in curve[:-1]]
        assert risks == sorted(risks, reverse=True)
