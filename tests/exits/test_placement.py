"""Sets of exits: what they cost, which are kept, and which is recommended."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from phaze_ee.exits import placement
from phaze_ee.exits.answers import Answers
from phaze_ee.exits.placement import (
    Placement,
    costly_heads,
    costly_placements,
    pareto_placements,
    place,
    placements,
    recommended,
)
from phaze_ee.exits.scores import make_score
from phaze_ee.names import ExitStage
from phaze_ee.paired import PairedCounts
from phaze_ee.results.base import Provenance
from phaze_ee.results.placement import CandidateExit
from tests.exits.synthetic import costs_of

HEAD = 0.01
SAME = PairedCounts(0, 0, 1)


def jets(skill: list[float], count: int = 400, seed: int = 0) -> Answers:
    """Jets of four classes; exits answer the better the larger their skill, the full model last."""
    random = np.random.default_rng(seed)
    label_N = random.integers(0, 4, count)
    logits_ENK = random.normal(size=(len(skill), count, 4))
    for exit_, lift in enumerate(skill):
        logits_ENK[exit_, np.arange(count), label_N] += lift
    costs = costs_of(np.linspace(0.1, 1, len(skill))[:, None] * np.ones(count), HEAD)
    return Answers(logits_ENK, label_N, np.ones(count, dtype=int), tuple("abcd"), costs)


def found(skill: list[float]) -> list[Placement]:
    return placements(make_score("confidence"), jets(skill), jets(skill, seed=1))


def test_a_set_costs_its_own_heads_alone() -> None:
    whole = jets([1, 2, 3, 4])
    part = whole.with_exits([1])
    assert part.exit_count == 1
    assert part.costs.all_heads_EN[:, 0] == pytest.approx([0.4 + HEAD, 1 + HEAD])
    assert np.array_equal(part.logits_ENK, whole.logits_ENK[[1, 3]])
    assert whole.with_exits([]).costs.all_heads_EN[:, 0] == pytest.approx([1.0])
    assert np.array_equal(whole.with_exits([0, 1, 2]).costs.all_heads_EN, whole.costs.all_heads_EN)


def test_all_sets_are_judged_and_the_full_model_comes_first() -> None:
    all_found = found([1, 2, 4])
    assert {one.exits for one in all_found} == {(), (0,), (1,), (0, 1)}
    assert all_found[0].exits == ()
    assert (all_found[0].cost, all_found[0].fractions) == (1.0, (1.0,))
    for one in all_found:
        assert sum(one.fractions) == pytest.approx(1.0)
        assert len(one.fractions) == len(one.thresholds) + 1 == len(one.exits) + 1
    single = next(one for one in all_found if one.exits == (0,))
    expected = single.fractions[0] * (0.1 + HEAD) + single.fractions[1] * (1 + HEAD)
    assert single.cost == pytest.approx(expected)


def test_what_is_kept_is_beaten_by_nothing() -> None:
    all_found = found([1, 2, 4])
    front = pareto_placements(all_found)
    assert all(earlier.cost < later.cost and earlier.accuracy < later.accuracy for earlier, later in pairwise(front))
    for kept in front:
        assert not any(one.cost <= kept.cost and one.accuracy > kept.accuracy for one in all_found)


def test_the_recommended_placement_keeps_the_accuracy_at_least_cost() -> None:
    all_found = found([1, 3, 4])
    chosen = recommended(all_found, 0.02)
    assert chosen.accuracy >= all_found[0].accuracy - 0.02
    assert chosen.cost < 0.9
    assert chosen.cost <= 0.005 + min(one.cost for one in all_found if one.accuracy >= all_found[0].accuracy - 0.02)


def test_of_equal_costs_the_fewest_exits_are_recommended() -> None:
    few, many, full = (
        Placement(exits, (), cost, 0.9, (), SAME) for exits, cost in (((1,), 0.401), ((0, 1), 0.4), ((), 1.0))
    )
    assert recommended([full, many, few], 0.01) is few


def test_useless_exits_are_not_recommended() -> None:
    assert recommended(found([0, 0, 6]), 1e-3).exits == ()


def test_many_candidates_limit_the_size_of_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "_MOST_SUBSETS", 6)
    assert {one.exits for one in found([1, 2, 3, 4])} == {(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2)}
    monkeypatch.setattr(placement, "_MOST_SUBSETS", 2)
    assert {one.exits for one in found([1, 2, 3, 4])} == {(), (0,), (1,), (2,)}


def test_heads_larger_than_the_network_are_told() -> None:
    cheap, costly = (
        CandidateExit(stage=stage, accuracy=0.5, macs_share=share) for stage, share in ((0, 0.4), (1, 3.57))
    )
    (note,) = costly_heads([cheap, costly], "deep_sets")
    assert note.startswith("exits after stage 1 cost more than the full model itself: their heads (deep_sets)")
    assert costly_heads([cheap], "deep_sets") == []


def test_the_results_are_those_of_the_placements() -> None:
    answers = jets([1, 3, 4], count=1000)
    stages: list[ExitStage] = ["input", 2]
    results = place(
        answers, stages, epsilon=0.02, class_prior=None, seed=3, exit_head="linear",
        provenance=Provenance("W/p", "m", None, [], ["first"]),
    )  # fmt: skip
    assert (results.shaping_jets, results.judging_jets) == (400, 600)
    assert [candidate.stage for candidate in results.candidates] == stages
    # The network costs 0.1, 0.55 and 1 up to the exits, and each head 0.01.
    assert [candidate.macs_share for candidate in results.candidates] == pytest.approx([0.11, 0.56])
    assert [curve[0].exit_stages for curve in results.curves] == [["input"], [2], ["input", 2]]
    assert (results.full_model.macs_share, results.full_model.exit_fractions) == (1.0, [1.0])
    assert results.recommended.accuracy >= results.full_model.accuracy - 0.02
    assert results.recommended.mean_macs == pytest.approx(results.recommended.macs_share)  # a full model costs 1 MAC
    chosen, count = results.recommended, results.judging_jets
    assert chosen.accuracy_error == pytest.approx((chosen.accuracy * (1 - chosen.accuracy) / count) ** 0.5)
    assert chosen.difference == pytest.approx(chosen.accuracy - results.full_model.accuracy)
    assert chosen.difference_error == pytest.approx(0.0081, abs=5e-4)  # of some 25 jets that change
    assert results.notes[0] == "first"


@pytest.mark.parametrize("skill", [[0, 0, 0, 6], [3, 0, 0, 4], [1, 3, 3, 4]])
def test_every_exit_of_a_listed_set_is_used(skill: list[float]) -> None:
    results = place(
        jets(skill, count=1000), [0, 1, 2], epsilon=0.1, class_prior=None, seed=3, exit_head="linear",
        provenance=Provenance("W/p", "m", None, [], []),
    )  # fmt: skip
    for point in (*results.pareto, results.recommended):
        assert all(point.exit_fractions[:-1]), point


def test_the_class_prior_weighs_the_costs() -> None:
    answers = jets([1, 3, 4], count=1000)
    slow_N = np.where(answers.label_N == 0, 2.0, 1.0)
    costs = costs_of(np.array([0.1, 0.5, 1.0])[:, None] * slow_N)
    found = {
        name: place(
            replace(answers, costs=costs), [0, 1], epsilon=0.02, class_prior=prior, seed=3, exit_head="linear",
            provenance=Provenance("W/p", "m", None, []),
        ).full_model.mean_macs
        for name, prior in {"slow": {"a": 1.0}, "fast": {"b": 0.5, "c": 0.5}}.items()
    }  # fmt: skip
    assert found["slow"] == pytest.approx(2, rel=0.1)
    assert found["fast"] == pytest.approx(1, rel=0.1)


def test_macs_are_those_of_the_network() -> None:
    answers = jets([1, 3, 4], count=1000)
    costs = costs_of(1e6 * np.linspace(0.1, 1, 3)[:, None] * np.ones(1000), 1e4)
    results = place(
        replace(answers, costs=costs), [0, 1], epsilon=0.02, class_prior=None, seed=3, exit_head="linear",
        provenance=Provenance("W/p", "m", None, []),
    )  # fmt: skip
    assert results.full_model.mean_macs == pytest.approx(1e6)
    assert [candidate.macs_share for candidate in results.candidates] == pytest.approx([0.11, 0.56])
    assert results.recommended.mean_macs == pytest.approx(1e6 * results.recommended.macs_share)


def test_what_costs_more_than_the_full_model_is_not_recommended_and_told() -> None:
    full = Placement((), (), 1.0, 0.8, (1.0,), SAME)
    dear = Placement((0,), (0.5,), 1.001, 0.81, (0.5, 0.5), SAME)
    assert recommended([full, dear], epsilon=0.01) is full
    assert recommended([full, dear, Placement((1,), (0.5,), 0.99, 0.795, (0.5, 0.5), SAME)], epsilon=0.01).exits == (1,)
    (note,) = costly_placements([full, dear])
    assert note.startswith("1 of the placements that no other beats cost more than the full model, above 100 %")
    assert costly_placements([full]) == []
