"""Sets of exits: what they cost, which are kept, and which is recommended."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from phaze_ee.exits import placement
from phaze_ee.exits.answers import CalibrationJets
from phaze_ee.exits.placement import Placement, pareto_placements, placements, recommended
from phaze_ee.exits.scores import make_score

HEAD = 0.01


def jets(skill: list[float], count: int = 400, seed: int = 0) -> CalibrationJets:
    """Jets of four classes; exits answer the better the larger their skill, the full model last."""
    random = np.random.default_rng(seed)
    label_N = random.integers(0, 4, count)
    logits_ENK = random.normal(size=(len(skill), count, 4))
    for exit_, lift in enumerate(skill):
        logits_ENK[exit_, np.arange(count), label_N] += lift
    heads_E = HEAD * np.arange(1, len(skill) + 1).clip(max=len(skill) - 1)
    cost_EN = (np.linspace(0.1, 1, len(skill)) + heads_E)[:, None] * np.ones(count)
    head_EN = np.full((len(skill) - 1, count), HEAD)
    names = tuple("abcd")
    return CalibrationJets(torch.from_numpy(logits_ENK), label_N, cost_EN, np.ones(count), names, 1.0, head_EN)


def found(skill: list[float]) -> list[Placement]:
    return placements(make_score("confidence"), jets(skill), jets(skill, seed=1))


def test_a_set_costs_its_own_heads_alone() -> None:
    whole = jets([1, 2, 3, 4])
    part = whole.with_exits([1])
    assert part.exit_count == 1
    assert part.cost_EN[:, 0] == pytest.approx([0.4 + HEAD, 1 + HEAD])
    assert torch.equal(part.logits_ENK, whole.logits_ENK[[1, 3]])
    assert whole.with_exits([]).cost_EN[:, 0] == pytest.approx([1.0])
    assert np.array_equal(whole.with_exits([0, 1, 2]).cost_EN, whole.cost_EN)


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
    few, many, full = (Placement(exits, (), cost, 0.9, ()) for exits, cost in (((1,), 0.401), ((0, 1), 0.4), ((), 1.0)))
    assert recommended([full, many, few], 0.01) is few


def test_useless_exits_are_not_recommended() -> None:
    assert recommended(found([0, 0, 6]), 1e-3).exits == ()


def test_many_candidates_limit_the_size_of_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "_MOST_SUBSETS", 6)
    assert {one.exits for one in found([1, 2, 3, 4])} == {(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2)}
    monkeypatch.setattr(placement, "_MOST_SUBSETS", 2)
    assert {one.exits for one in found([1, 2, 3, 4])} == {(), (0,), (1,), (2,)}
