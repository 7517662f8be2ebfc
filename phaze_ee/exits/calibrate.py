"""Fits an exit policy to a target, and tests, on other jets, that the policy meets it.

No jet has two uses: some shape the policies, the others test them, in an order that was fixed before. This makes the
promise hold for finite samples.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

import numpy as np

from phaze_ee.errors import UsageError
from phaze_ee.exits.answers import Answers, ExitIndex, check_finite
from phaze_ee.exits.betting import NetLosses
from phaze_ee.exits.bounds import binomial_p_value, jets_needed, last_conformal, last_passing, upper_bound
from phaze_ee.exits.candidates import Candidate, candidates, cost_curve
from phaze_ee.exits.costs import prior_weights
from phaze_ee.exits.fits import fit_temperatures
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.scores import ExitScore
from phaze_ee.exits.targets import Budget, NetAccuracyDrop, Risk, SignalEfficiency, Target, wrong_answers
from phaze_ee.machine import Precision
from phaze_ee.results.base import Record

# The share of the jets that shape the policy; the others test it. A test of a small risk needs the larger part.
_SHAPING = 0.4
_BUDGET_POINTS = 200
_NOTHING_SAVES = "no exit saves anything at a risk near the allowed one; train the exits longer, or allow a larger risk"

Method = Literal["ltt", "crc"]


class TestedRisk(Record):
    """A risk on the jets that tested the policy: ``lost`` of ``jets``, with an upper limit at confidence 1 − δ."""

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
        score: name of the exit score; None: the one that suits the target.
        delta: probability that the promise is broken.
        method: ``ltt`` for a risk below ε with confidence 1 − δ, ``crc`` for an expected risk below ε.
        temperatures: whether to fit a temperature for each exit.
        seed: decides which jets shape the policy and which test it.
        class_prior: shares of the classes in mean costs; None: as the jets have them.
        precision: of the products that gave the answers; it is recorded.
    """

    target: Target
    score: str | None = None
    delta: float = 0.05
    method: Method = "ltt"
    temperatures: bool = True
    seed: int = 0
    class_prior: Mapping[str, float] | None = None
    precision: Precision = "float32"


@final
@dataclass(frozen=True)
class Calibration:
    """A policy with its target, its tested risks and the jets that gave it.

    Attributes:
        policy: the full model (thresholds of infinity) if nothing passed.
        target: as in the settings, with its cut if it has one.
        risks: on the jets that tested the policy.
        reason: why nothing passed; None if something did.
        more_jets: how many more calibration jets like these would let the safest policy pass; None if unknown.
        answers: for all jets, in float64 and with costs as shares of the full model's mean.
        shaping: answers for the jets that shaped the policy, divided by the temperatures.
        testing: answers for the jets that tested it, divided by the temperatures.
    """

    policy: ThresholdPolicy
    target: Target
    risks: list[TestedRisk]
    reason: str | None
    answers: Answers
    shaping: Answers
    testing: Answers
    more_jets: int | None = None


def calibrate(answers: Answers, settings: Settings) -> Calibration:
    """Choose the policy of least mean cost that keeps the target.

    A part of the jets shapes temperatures, cut, gates and a sequence of policies from the safest to the fastest. The
    other part tests the policies in this order (:func:`phaze_ee.exits.bounds.last_passing`).

    Each threshold lies midway between two scores of neighbouring jets that shaped it, so that rounding, which differs
    between forms of the network, moves none of them to the other side. The promise does not depend on this choice: the
    policies are fixed, wherever their thresholds lie, before a jet tests them. A threshold between the scores of jets
    that test it would depend on them.

    Args:
        answers: of all exits, without temperatures.
        settings: the target and how to reach it.

    Raises:
        DataError: the target or the class prior needs true classes that are unknown, or a class that has no jets.
        RunError: a logit is not finite.
        UsageError: the score does not suit the target, or the class prior names an unknown class.
    """
    answers = relative_answers(answers, settings.class_prior)
    target, (shaping, testing) = settings.target, split(answers, settings.seed)
    if isinstance(target, NetAccuracyDrop) and settings.method == "crc":
        raise UsageError(
            "exit_target = 'net_accuracy_drop' can fall from one policy to the next; use risk_control = 'ltt'"
        )
    if isinstance(target, Budget):
        shaping = testing = answers  # nothing is promised, so no jets are kept for a test
    temperatures = fit_temperatures(shaping) if settings.temperatures and shaping.labelled else None
    shaping, testing = shaping.tempered(temperatures), testing.tempered(temperatures)
    if isinstance(target, SignalEfficiency):
        target = target.with_cut(shaping)
    scores = target.scores(shaping, settings.score)
    if isinstance(target, Budget):
        policy, reason = _within_budget(scores, shaping, target.cost)
        more_jets = None
    else:
        policy, reason, more_jets = _tested(scores, shaping, testing, target, settings)
    policy = ThresholdPolicy(policy.score, policy.thresholds, temperatures)
    risks = _observe(policy, (shaping, testing), (target.risks(shaping), target.risks(testing)), settings)
    return Calibration(policy, target, risks, reason, answers, shaping, testing, more_jets)


def relative_answers(answers: Answers, class_prior: Mapping[str, float] | None) -> Answers:
    """Return the answers in float64, with costs as shares of the full model's mean cost under a class prior.

    Raises:
        RunError: a logit is not finite.
        DataError, UsageError: the prior does not fit the jets (:func:`phaze_ee.exits.costs.prior_weights`).
    """
    check_finite(answers.logits_ENK)
    weight_N = prior_weights(answers.label_N, answers.class_names, class_prior)
    return replace(answers.double(), costs=answers.costs.relative_to_full_model(weight_N))


def split(answers: Answers, seed: int) -> tuple[Answers, Answers]:
    """Return the jets that shape policies (40 %) and those that test them, drawn at random."""
    order = np.random.default_rng(seed).permutation(len(answers))
    count = round(_SHAPING * len(answers))
    return answers.select(np.sort(order[:count])), answers.select(np.sort(order[count:]))


def _within_budget(scores: Sequence[ExitScore], answers: Answers, cost: float) -> tuple[ThresholdPolicy, str | None]:
    errors = wrong_answers(answers)
    curves = (cost_curve(score, answers, errors, _BUDGET_POINTS) for score in scores)
    affordable = [candidate for curve in curves for candidate in curve if candidate.cost <= cost]
    if not affordable:
        cheapest = answers.costs.mean(answers.all_at(0))
        return _full_model(scores[0], answers), (
            f"no policy costs {cost:.3g} of the full model or less: its first exit costs {cheapest:.3g}"
        )
    return min(affordable, key=lambda candidate: candidate.risk).policy, None


def _tested(
    scores: Sequence[ExitScore], shaping: Answers, testing: Answers, target: Target, settings: Settings
) -> tuple[ThresholdPolicy, str | None, int | None]:
    shaping_risks, risks = target.risks(shaping), target.risks(testing)
    sequence = candidates(scores, shaping, shaping_risks)
    observed = [_observe(one.policy, (shaping, testing), (shaping_risks, risks), settings) for one in sequence]
    chosen = _choose(observed, settings)
    if chosen is not None:
        return sequence[chosen].policy, None, None
    full, jets = _full_model(scores[0], shaping), len(shaping) + len(testing)
    if not sequence:
        return full, _NOTHING_SAVES, None
    short = [
        _Shortfall(
            tested.name,
            tested.epsilon,
            tested.lost,
            tested.jets,
            jets,
            _needed(tested, risk, sequence[0], testing, settings),
        )
        for tested, risk in zip(observed[0], risks, strict=True)
        if _choose([[tested]], settings) is None
    ]
    missing = [one.more_jets for one in short if one.more_jets is not None]
    return full, "; ".join(map(str, short)), max(missing) if len(missing) == len(short) else None


@final
@dataclass(frozen=True)
class _Shortfall:
    """A risk that the safest policy does not show to be below its limit.

    ``lost`` of the ``count`` jets that count were lost, of ``jets`` calibration jets. With losses at the same rate
    ``needed`` jets that count would do; None if no number would.
    """

    name: str
    epsilon: float
    lost: int
    count: int
    jets: int
    needed: int | None

    @property
    def more_jets(self) -> int | None:
        """How many more calibration jets like these would do."""
        return None if self.needed is None else max(1, math.ceil(self.needed / self.count * self.jets) - self.jets)

    def __str__(self) -> str:
        if self.count == 0:
            return f"{self.name}: none of the jets that test the policy counts, so add calibration jets"
        enough = "no number of jets would do"
        if self.needed is not None:
            enough = f"it takes {self.needed:,} such jets, about {self.more_jets:,} more calibration jets like these"
        return (
            f"{self.name}: {self.lost} of {self.count} jets with the safest policy, which does not show a probability "
            f"below {self.epsilon:.3g}; at this rate {enough}"
        )


def _needed(tested: TestedRisk, risk: Risk, candidate: Candidate, testing: Answers, settings: Settings) -> int | None:
    if not tested.jets:
        return None
    if risk.gained_EN is not None:
        return risk.net_losses(testing.exit_index(candidate.policy)).jets_needed(risk.epsilon, settings.delta)
    return jets_needed(tested.rate, risk.epsilon, settings.delta)


def _observe(
    policy: ThresholdPolicy,
    parts: tuple[Answers, Answers],
    risks: tuple[Sequence[Risk], Sequence[Risk]],
    settings: Settings,
) -> list[TestedRisk]:
    """Test risks on the second part of the jets; the first part decides how much to bet on net losses."""
    shaping_N, testing_N = (answers.exit_index(policy) for answers in parts)
    return [
        _tested_risk(risk, testing_N, before.net_losses(shaping_N), settings.delta)
        for before, risk in zip(*risks, strict=True)
    ]


def _choose(observed: Sequence[Sequence[TestedRisk]], settings: Settings) -> int | None:
    """Return the last policy for which all risks pass; one that is too high passes with a probability of at most δ."""
    if settings.method == "ltt":
        return last_passing((max(tested.p_value for tested in row) for row in observed), settings.delta)
    chosen = [
        last_conformal([tested.rate for tested in column], [tested.jets for tested in column], column[0].epsilon)
        for column in zip(*observed, strict=True)
    ]
    return None if None in chosen else min((index for index in chosen if index is not None), default=None)


def _full_model(score: ExitScore, answers: Answers) -> ThresholdPolicy:
    return ThresholdPolicy(score, [math.inf] * answers.exit_count)


def _tested_risk(risk: Risk, index_N: ExitIndex, shaped: NetLosses, delta: float) -> TestedRisk:
    lost, count = risk.observed(index_N)
    if risk.gained_EN is None:
        upper_limit, p_value = upper_bound(lost, count, delta), binomial_p_value(lost, count, risk.epsilon)
    else:
        losses, bet = risk.net_losses(index_N), shaped.bet(count, delta)
        upper_limit, p_value = losses.upper_limit(delta, bet), losses.p_value(risk.epsilon, bet)
    return TestedRisk(
        name=risk.name,
        epsilon=risk.epsilon,
        lost=lost,
        jets=count,
        rate=lost / max(count, 1),
        upper_limit=upper_limit,
        p_value=p_value,
    )
