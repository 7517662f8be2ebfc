"""Fits a policy to a target, and tests on other jets that it keeps it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

import numpy as np
import numpy.typing as npt

from phaze_ee.exits.answers import CalibrationJets
from phaze_ee.exits.bounds import binomial_p_value, jets_needed, last_conformal, last_passing, upper_bound
from phaze_ee.exits.candidates import Candidate, candidates, cost_curve
from phaze_ee.exits.fits import fit_temperatures
from phaze_ee.exits.policies import ThresholdPolicy, temper
from phaze_ee.exits.scores import ExitScore
from phaze_ee.exits.targets import Budget, Risk, SignalEfficiency, Target, wrong_answers
from phaze_ee.results.base import Record

# The share of the jets that shape the policy; the others test it. A test of a small risk needs the larger part.
_SHAPING = 0.4
_BUDGET_POINTS = 200

Method = Literal["ltt", "crc"]


class TestedRisk(Record):
    """A risk on the jets that tested the policy: ``lost`` of ``jets``, and its upper limit at confidence 1 − δ."""

    name: str
    epsilon: float
    lost: int
    jets: int
    rate: float
    upper_limit: float
    p_value: float


@final
@dataclass(frozen=True)
class Settings:
    """How to calibrate.

    Attributes:
        target: what the policy has to keep.
        score: name of the exit score; None: what suits the target.
        delta: the promise may be broken with this probability.
        method: ``ltt`` for a risk below ε with confidence 1 − δ, ``crc`` for an expected risk below ε.
        temperatures: fit one per exit.
        seed: decides which jets shape the policy and which test it.
    """

    target: Target
    score: str | None = None
    delta: float = 0.05
    method: Method = "ltt"
    temperatures: bool = True
    seed: int = 0


@final
@dataclass(frozen=True)
class Calibration:
    """A policy and what is known of it.

    Attributes:
        policy: the full model (no exit offered) where nothing passed.
        target: as asked for, with its cut where it has one.
        risks: on the jets that tested the policy.
        reason: why nothing passed; None where something did.
        shaping: the jets that shaped the policy.
        testing: the jets that tested it, with tempered logits.
    """

    policy: ThresholdPolicy
    target: Target
    risks: list[TestedRisk]
    reason: str | None
    shaping: CalibrationJets
    testing: CalibrationJets


def calibrate(jets: CalibrationJets, settings: Settings) -> Calibration:
    """Choose the policy of least mean cost that keeps the target.

    A part of the jets shapes temperatures, cut, gates and a sequence of policies from the safest to the fastest; the
    other part tests them in this order (:func:`phaze_ee.exits.bounds.last_passing`).

    Raises:
        DataError: the target needs classes that the jets do not tell, or that have no jets.
        UsageError: the score does not suit the target.
    """
    target, (shaping, testing) = settings.target, split(jets, settings.seed)
    if isinstance(target, Budget):
        shaping = testing = jets  # nothing is promised, so nothing needs jets of its own
    temperatures = fit_temperatures(shaping) if settings.temperatures and (shaping.label_N >= 0).all() else None
    tempering = ThresholdPolicy("confidence", [], temperatures)
    shaping, testing = (replace(part, logits_ENK=temper(tempering, part.logits_ENK)) for part in (shaping, testing))
    if isinstance(target, SignalEfficiency):
        target = target.with_cut(shaping)
    scores = target.scores(shaping, settings.score)
    if isinstance(target, Budget):
        policy, reason = _within_budget(scores, shaping, target.cost)
    else:
        policy, reason = _tested(scores, shaping, testing, target, settings)
    policy = ThresholdPolicy(policy.score, policy.thresholds, temperatures)
    index_N = testing.exit_index(policy)
    risks = [_tested_risk(risk, index_N, settings.delta) for risk in target.risks(testing)]
    return Calibration(policy, target, risks, reason, shaping, testing)


def split(jets: CalibrationJets, seed: int) -> tuple[CalibrationJets, CalibrationJets]:
    """Return the jets that shape policies, and those that test them."""
    order = np.random.default_rng(seed).permutation(len(jets))
    count = round(_SHAPING * len(jets))
    return jets.select(np.sort(order[:count])), jets.select(np.sort(order[count:]))


def _within_budget(
    scores: Sequence[ExitScore], jets: CalibrationJets, cost: float
) -> tuple[ThresholdPolicy, str | None]:
    errors = wrong_answers(jets)
    curves = (cost_curve(score, jets, errors, _BUDGET_POINTS) for score in scores)
    affordable = [candidate for curve in curves for candidate in curve if candidate.cost <= cost]
    if not affordable:
        cheapest = float((jets.weight_N * jets.cost_EN[0]).mean()) if jets.exit_count else 1.0
        return _full_model(scores[0], jets), (
            f"no policy costs {cost:.3g} of the full model or less: its first exit costs {cheapest:.3g}"
        )
    return min(affordable, key=lambda candidate: candidate.risk).policy, None


def _tested(
    scores: Sequence[ExitScore], shaping: CalibrationJets, testing: CalibrationJets, target: Target, settings: Settings
) -> tuple[ThresholdPolicy, str | None]:
    sequence = candidates(scores, shaping, target.risks(shaping))
    risks = target.risks(testing)
    observed = [_observe(candidate, testing, risks) for candidate in sequence]
    chosen = _choose(observed, risks, settings)
    if chosen is not None:
        return sequence[chosen].policy, None
    return _full_model(scores[0], shaping), _why(sequence, observed, risks, settings)


def _observe(candidate: Candidate, jets: CalibrationJets, risks: Sequence[Risk]) -> list[tuple[int, int]]:
    index_N = jets.exit_index(candidate.policy)
    return [risk.observed(index_N) for risk in risks]


def _choose(observed: Sequence[Sequence[tuple[int, int]]], risks: Sequence[Risk], settings: Settings) -> int | None:
    """Return the last policy for which all risks pass: the chance that one is too high and passes is at most δ."""
    if settings.method == "ltt":
        p_values = (
            max(binomial_p_value(lost, count, risk.epsilon) for (lost, count), risk in zip(row, risks, strict=True))
            for row in observed
        )
        return last_passing(p_values, settings.delta)
    columns = [[row[number] for row in observed] for number in range(len(risks))]
    chosen = [
        last_conformal([lost / max(count, 1) for lost, count in column], [count for _, count in column], risk.epsilon)
        for column, risk in zip(columns, risks, strict=True)
    ]
    return None if None in chosen else min(index for index in chosen if index is not None)


def _why(
    sequence: Sequence[Candidate],
    observed: Sequence[Sequence[tuple[int, int]]],
    risks: Sequence[Risk],
    settings: Settings,
) -> str:
    if not sequence:
        return "no exit saves anything at a risk near the allowed one; train the exits longer, or allow a larger risk"
    rows = zip(observed[0], risks, strict=True)
    return "; ".join(
        _too_few(risk, lost, count, settings)
        for (lost, count), risk in rows
        if _choose([[(lost, count)]], [risk], settings) is None
    )


def _too_few(risk: Risk, lost: int, count: int, settings: Settings) -> str:
    if count == 0:
        return f"{risk.name}: none of the jets that test the policy counts, so add calibration jets"
    needed = jets_needed(lost / count, risk.epsilon, settings.delta)
    return (
        f"{risk.name}: {lost} of {count} jets with the safest policy, which does not show a probability below "
        f"{risk.epsilon:.3g}; at this rate "
        + (f"it takes {needed:,} such jets" if needed else "no number of jets would do")
    )


def _full_model(score: ExitScore, jets: CalibrationJets) -> ThresholdPolicy:
    return ThresholdPolicy(score, [math.inf] * jets.exit_count)


def _tested_risk(risk: Risk, index_N: npt.NDArray[np.int64], delta: float) -> TestedRisk:
    lost, count = risk.observed(index_N)
    return TestedRisk(
        name=risk.name,
        epsilon=risk.epsilon,
        lost=lost,
        jets=count,
        rate=lost / max(count, 1),
        upper_limit=upper_bound(lost, count, delta),
        p_value=binomial_p_value(lost, count, risk.epsilon),
    )
