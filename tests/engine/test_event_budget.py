"""Jets of an event that share a budget."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phaze_ee.engine.engine import Engine
from phaze_ee.engine.event_budget import BudgetReport, EventBudget
from phaze_ee.errors import UsageError
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.scores import FixedExit
from tests.jets import random_jets, small_tagger

COUNTS = [int(count) for count in torch.randint(1, 30, (60,), generator=torch.Generator().manual_seed(1))]
EVENTS = torch.tensor([number % 13 * 7 for number in range(len(COUNTS))])  # any integers, in any order
DEEP = ThresholdPolicy("confidence", [2.0, 2.0, 2.0])  # offers all exits, and nobody leaves


def test_the_surest_are_refused_first() -> None:
    refused = EventBudget(100).refused(
        score_N=torch.tensor([0.9, 0.1, 0.5, 0.3]),
        event_N=torch.tensor([0, 0, 0, 1]),
        step_N=torch.tensor([40, 40, 40, 101]),
        spent_U=torch.tensor([20, 0]),
    )
    assert refused.tolist() == [True, False, False, True]


def test_an_event_stays_within_its_budget_and_the_others_do_not_matter() -> None:
    tagger, jets = small_tagger(), random_jets(COUNTS, length=32)
    free = Engine(tagger, DEEP)(jets)
    first = tagger.packed().exit_macs(jets.particle_count_N, exits=DEEP.exits)[0]
    totals = torch.stack(
        [
            torch.stack([macs[event == EVENTS].sum() for event in torch.unique(EVENTS).tolist()])
            for macs in (first, free.macs_N)
        ]
    )
    budget = EventBudget(float((totals[0].max() + totals[1].min()) / 2))
    result = Engine(tagger, DEEP, event_budget=budget)(jets, EVENTS)
    assert not free.refused_N.any()
    assert result.refused_N.any()
    assert not result.refused_N.all()
    for event in torch.unique(EVENTS).tolist():
        own = event == EVENTS
        assert result.macs_N[own].sum() <= budget.macs
        alone = Engine(tagger, DEEP, event_budget=budget)(jets.select(own), EVENTS[own])
        assert torch.equal(alone.exit_index_N, result.exit_index_N[own])
    # Who was refused left early; the others have the full model's answer.
    assert torch.equal(result.refused_N, result.exit_index_N < 3)
    kept = ~result.refused_N
    torch.testing.assert_close(result.logits_NK[kept], free.logits_NK[kept], rtol=0, atol=1e-11)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_large_budget_changes_nothing(threads: int) -> None:
    tagger, jets = small_tagger(), random_jets(COUNTS, length=32)
    free = Engine(tagger, DEEP)(jets)
    result = Engine(tagger, DEEP, event_budget=EventBudget(1e12), threads=threads)(jets, EVENTS)
    torch.testing.assert_close(result.logits_NK, free.logits_NK, rtol=0, atol=1e-11)
    assert torch.equal(result.macs_N, free.macs_N)


def test_an_event_whose_first_exits_cost_too_much_exceeds_its_budget() -> None:
    budget = EventBudget(1.0)
    jets = random_jets([5, 6, 7], length=8)
    events = torch.tensor([4, 4, 9])
    result = Engine(small_tagger(), DEEP, event_budget=budget)(jets, events)
    assert result.exit_index_N.tolist() == [0, 0, 0]
    report = BudgetReport.of(events, result.macs_N, result.refused_N, budget)
    assert report == BudgetReport(events=2, cut=2, exceeded=2)
    assert report + report == BudgetReport(events=4, cut=4, exceeded=4)


def test_jets_that_would_leave_anyway_are_not_refused() -> None:
    jets = random_jets([5, 6, 7], length=8)
    policy = ThresholdPolicy(FixedExit(exit=0), [0.5, 0.5, 0.5])
    result = Engine(small_tagger(), policy, event_budget=EventBudget(1.0))(jets, torch.zeros(3, dtype=torch.long))
    assert not result.refused_N.any()


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), st.integers(1, 50)), min_size=1, max_size=20))
def test_what_goes_on_fits(rows: list[tuple[float, int, int]]) -> None:
    score_N, event_N, step_N = map(torch.tensor, zip(*rows, strict=True))
    spent_U = torch.tensor([0, 10, 20, 200])
    goes_N = ~EventBudget(100).refused(score_N, event_N, step_N, spent_U)
    for event in range(4):
        own = event_N == event
        assert spent_U[event] + step_N[own & goes_N].sum() <= 100 or not (own & goes_N).any()
        if goes_N[own].any() and not goes_N[own].all():
            assert score_N[own & goes_N].max() <= score_N[own & ~goes_N].min()


def test_mistakes_are_told() -> None:
    with pytest.raises(UsageError, match="an event budget of 0 MACs"):
        EventBudget(0)
    with pytest.raises(UsageError, match="needs a ThresholdPolicy"):
        Engine(small_tagger(), event_budget=EventBudget(1))
    with pytest.raises(UsageError, match="needs event_N"):
        Engine(small_tagger(), DEEP, event_budget=EventBudget(1))(random_jets([3], length=4))
    with pytest.raises(UsageError, match=r"event_N has the shape \(2, 1\); give 2 numbers, the event of each jet"):
        Engine(small_tagger(), DEEP, event_budget=1)(random_jets([3, 4], length=4), torch.zeros(2, 1))


def test_a_number_is_a_budget_in_macs_and_an_array_may_tell_the_events() -> None:
    jets, events = random_jets([5, 6, 7], length=8), torch.tensor([4, 4, 9])
    expected = Engine(small_tagger(), DEEP, event_budget=EventBudget(3e4))(jets, events)
    found = Engine(small_tagger(), DEEP, event_budget=3e4)(jets, events.numpy())  # type: ignore[arg-type]
    assert torch.equal(found.exit_index_N, expected.exit_index_N)
