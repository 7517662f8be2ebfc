"""Tests of one risk on the jets that it counts, and how many of them a test takes."""

from typing import final

from phaze_ee.exits.answers import ExitIndex
from phaze_ee.exits.betting import NetLosses, NetTest
from phaze_ee.exits.bounds import binomial_p_value, jets_needed, upper_bound
from phaze_ee.exits.targets import Risk
from phaze_ee.results.base import Record

# A part of the jets is tested if it passes with this share of the allowed losses: a safe policy has some.
_ROOM = 0.25


@final
class TestedRisk(Record):
    """A risk on the jets that tested the policy: ``lost`` of ``jets``, with an upper limit at confidence 1 − δ.

    Of net losses, ``lost`` is the difference of lost and gained jets. ``test`` says which test gave limit and p-value.
    """

    name: str
    epsilon: float
    lost: int
    jets: int
    rate: float
    upper_limit: float
    p_value: float
    test: NetTest = "binomial"


def tested_risk(risk: Risk, index_N: ExitIndex, shaped: NetLosses, delta: float) -> TestedRisk:
    """Test a risk on jets that leave at these exits.

    Args:
        risk: on the jets that test the policy.
        index_N: where they leave.
        shaped: the losses of the jets that shaped the policy, which decide how net losses are tested.
        delta: 1 − the confidence of the upper limit.
    """
    losses = risk.net_losses(index_N)
    lost, count = risk.observed(index_N)
    test: NetTest = "binomial"
    if risk.gained_EN is None:
        upper_limit = upper_bound(lost, count, delta)
    else:
        test = shaped.best_test(count, risk.epsilon, delta)
        upper_limit = losses.upper_limit(delta, shaped.bet(count, delta), test)
    return TestedRisk(
        name=risk.name,
        epsilon=risk.epsilon,
        lost=lost,
        jets=count,
        rate=lost / max(count, 1),
        upper_limit=upper_limit,
        p_value=p_value(risk, losses, shaped, delta),
        test=test,
    )


def p_value(risk: Risk, losses: NetLosses, shaped: NetLosses, delta: float) -> float:
    """Return the p-value of "the risk is above its limit" for these losses."""
    if risk.gained_EN is None:
        return binomial_p_value(round(losses.lost), round(losses.jets), risk.epsilon)
    test = shaped.best_test(losses.jets, risk.epsilon, delta)
    return losses.tested(test, risk.epsilon, shaped.bet(losses.jets, delta), delta)


def needed_for(risk: Risk, losses: NetLosses, delta: float) -> int | None:
    """Return how many jets would show a risk below its limit, with losses at these rates; None if no number would."""
    if not losses.jets:
        return None
    if risk.gained_EN is None:
        return jets_needed(losses.mean, risk.epsilon, delta)
    return losses.jets_needed(risk.epsilon, delta)


def worth_testing(risk: Risk, delta: float) -> int:
    """Return how many jets show a risk below its limit if a quarter of what is allowed is lost.

    Of net losses, half of it is lost and a quarter gained.
    """
    gained = 0.0 if risk.gained_EN is None else _ROOM
    needed = needed_for(risk, NetLosses((_ROOM + gained) * risk.epsilon, gained * risk.epsilon, 1), delta)
    assert needed is not None
    return needed
