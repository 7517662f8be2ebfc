"""Promises in parts of the jets: in each class, in bins, and among the jets that leave."""

from dataclasses import replace

import numpy as np
import pytest

from phaze_ee.errors import DataError, UsageError
from phaze_ee.exits.answers import Answers, at_exit
from phaze_ee.exits.calibrate import Calibration, Settings, calibrate
from phaze_ee.exits.conditions import Conditions, promised
from phaze_ee.exits.promise import guarantee
from phaze_ee.exits.targets import AccuracyDrop, Agreement, Budget, NetAccuracyDrop, SignalEfficiency, Target
from phaze_ee.exits.tested import worth_testing
from tests.exits.synthetic import synthetic_answers

PT = {"jet_pt": [500.0, 600.0, 800.0]}


def jets_with_pt(count: int, seed: int = 1) -> Answers:
    """Jets whose first exits are confident and often wrong below 600 GeV; some jets are above 800 GeV."""
    jets, rng = synthetic_answers(count, seed), np.random.default_rng(seed + 100)
    pt_N = rng.choice([550.0, 700.0, 900.0], p=[0.3, 0.6, 0.1], size=count)
    logits_ENK = jets.logits_ENK.copy()
    shuffled_N = (pt_N < 600) & (rng.uniform(size=count) < 0.1)
    logits_ENK[:2, shuffled_N] = np.roll(logits_ENK[:2, shuffled_N], 1, axis=-1)
    return replace(jets, logits_ENK=logits_ENK, observers={"jet_pt": pt_N})


JETS, OTHERS = jets_with_pt(8000), jets_with_pt(20_000, 2)


def calibrated(conditions: Conditions, target: Target | None = None, jets: Answers = JETS) -> Calibration:
    return calibrate(jets, Settings(target or AccuracyDrop(epsilon=0.02), conditions=conditions))


def realised(result: Calibration, conditions: Conditions, others: Answers | None = None) -> dict[str, float]:
    """The risks of a policy on other jets, in units of their limits."""
    others = (others or OTHERS).tempered(result.policy.temperatures)
    index_N = others.exit_index(result.policy)
    observed = {risk.name: (risk, *risk.observed(index_N)) for risk in promised(
        result.target, conditions, result.untested, others
    )}  # fmt: skip
    return {name: lost / count / risk.epsilon for name, (risk, lost, count) in observed.items()}


def test_a_promise_in_bins_is_kept_where_one_for_all_jets_is_not() -> None:
    bins = Conditions(bins=PT)
    low = "jets made wrong, jet_pt 500 to 600"
    alone, divided = calibrated(Conditions()), calibrated(bins)
    assert divided.reason is None
    assert realised(alone, bins)[low] > 1.3
    assert max(realised(divided, bins).values()) < 1.1
    assert [risk.name for risk in divided.risks] == ["jets made wrong", low, "jets made wrong, jet_pt 600 to 800"]


def test_a_jet_at_an_edge_is_in_the_bin_above() -> None:
    jets = replace(synthetic_answers(6), observers={"run": np.array([0.0, 1.0, 1.0, 2.0, 3.0, np.nan])})
    parts = Conditions(bins={"run": [1.0, 2.0, 3.0]}).risks(AccuracyDrop(epsilon=0.02).risks(jets), jets)
    assert [risk.counts_N.tolist() for risk in parts[1:]] == [
        [False, True, True, False, False, False],
        [False, False, False, True, False, False],
    ]


@pytest.mark.parametrize("target", [Agreement(epsilon=0.02), NetAccuracyDrop(epsilon=0.02)], ids=lambda t: t.name)
def test_a_promise_in_each_class(target: Target) -> None:
    conditions = Conditions(per_class=True)
    result = calibrated(conditions, target)
    assert result.reason is None
    assert [risk.name.split(", ")[-1] for risk in result.risks[1:]] == ["QCD", "Hbb", "Tbqq"]
    assert sum(risk.jets for risk in result.risks[1:]) == result.risks[0].jets
    assert max(realised(result, conditions).values()) < 1.2


def test_the_jets_that_leave_are_judged_among_themselves() -> None:
    conditions = Conditions(leaving=True)
    everyone, leaving = (calibrated(one, jets=synthetic_answers(6000)) for one in (Conditions(), conditions))
    assert leaving.reason is None
    (risk,) = leaving.risks
    index_N = leaving.testing.exit_index(leaving.policy)
    correct_EN = leaving.testing.correct_EN
    lost_N = correct_EN[-1] & ~at_exit(correct_EN, index_N)
    assert (risk.lost, risk.jets) == (lost_N.sum(), (index_N < 2).sum())
    assert risk.upper_limit <= 0.02
    others = synthetic_answers(20_000, 2)
    assert max(realised(leaving, conditions, others).values()) < 1.2
    mean = [
        others.costs.mean(others.tempered(result.policy.temperatures).exit_index(result.policy))
        for result in (everyone, leaving)
    ]
    assert mean[0] < mean[1] < 1  # the same limit for fewer jets is the stricter one


def test_parts_with_too_few_jets_are_named_with_what_they_take() -> None:
    conditions = Conditions(bins={"jet_pt": [500.0, 600.0, 800.0, 1000.0, 2000.0]})
    result = calibrated(conditions, AccuracyDrop(epsilon=0.005))
    few, none = result.untested
    assert few.name == "jets made wrong, jet_pt 800 to 1000"
    assert few.jets == (result.testing.observers["jet_pt"] == np.float64(900)).sum()
    assert few.needed == worth_testing(result.target.risks(result.testing)[0], 0.05) > few.jets
    assert few.more_jets == pytest.approx((few.needed / few.jets - 1) * len(JETS), abs=1)
    assert (none.jets, none.more_jets) == (0, None)
    assert result.reason is None
    promise = guarantee(result, "ltt", 0.05, conditions)
    assert promise.holds
    assert promise.multiplicity == "fixed_sequence"
    assert promise.untested == [few, none]
    assert "in 4 bins of jet_pt (500, 600, 800, 1000, 2000)" in promise.statement
    assert "not promised for lack of jets: jet_pt 800 to 1000, jet_pt 1000 to 2000" in promise.statement


def test_without_a_part_that_can_be_tested_nothing_is_promised() -> None:
    result = calibrated(Conditions(bins={"jet_pt": [850.0, 950.0]}), AccuracyDrop(epsilon=0.001))
    assert "no part has enough jets for a test: jet_pt 850 to 950" in str(result.reason)
    assert result.more_jets is not None
    assert result.policy.exits == ()


def test_what_cannot_be_promised_is_refused() -> None:
    with pytest.raises(DataError, match=r"no 'jet_mass'; there are jet_nparticles, jet_pt: change promise_bins"):
        calibrated(Conditions(bins={"jet_mass": [1.0, 2.0]}))
    with pytest.raises(UsageError, match="'budget' promises nothing"):
        calibrated(Conditions(per_class=True), Budget(cost=0.5))
    point = SignalEfficiency(
        epsilon=0.05, signal="label_Hbb", background="label_QCD", efficiency=0.5, background_growth=0.5, form="reject"
    )
    with pytest.raises(UsageError, match="promise_leaving does not suit exit_target = 'signal_efficiency'"):
        calibrated(Conditions(leaving=True), point)
    with pytest.raises(UsageError, match="promise_leaving can fall from one policy to the next"):
        calibrate(JETS, Settings(Agreement(epsilon=0.02), method="crc", conditions=Conditions(leaving=True)))
    unlabelled = replace(JETS, label_N=np.full(len(JETS), -1))
    with pytest.raises(DataError, match="a promise for each class needs the true classes"):
        calibrated(Conditions(per_class=True), Agreement(epsilon=0.02), unlabelled)


def test_a_working_point_is_promised_in_bins() -> None:
    point = SignalEfficiency(
        epsilon=0.05, signal="label_Hbb", background="label_QCD", efficiency=0.5, background_growth=0.5, form="reject"
    )
    result = calibrated(Conditions(bins={"jet_nparticles": [0.5, 1.5]}), point)
    assert [(risk.lost, risk.jets) for risk in result.risks[:1]] == [
        (risk.lost, risk.jets) for risk in result.risks[1:]
    ]  # all jets have one particle
