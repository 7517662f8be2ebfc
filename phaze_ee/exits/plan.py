"""How many calibration jets a promise takes, simulated from a pilot: other jets of the same kind."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, final

import numpy as np

from phaze_ee.errors import UsageError
from phaze_ee.exits.answers import Answers, ExitIndex, at_exit
from phaze_ee.exits.betting import NetLosses
from phaze_ee.exits.bounds import last_passing
from phaze_ee.exits.calibrate import (
    SHAPING,
    Sample,
    Settings,
    check,
    policies,
    prepared,
    relative_answers,
)
from phaze_ee.exits.candidates import Candidate
from phaze_ee.exits.targets import Budget, Risk
from phaze_ee.exits.tested import p_value, worth_testing
from phaze_ee.shapes import Float

SIZES = (200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000)
_SIMULATIONS = 100
_POLICIES = 50  # of the sequence, evenly spaced

Counts = Float[np.ndarray, "S C"]


@final
@dataclass(frozen=True)
class PlannedSize:
    """What a number of calibration jets is expected to give.

    Attributes:
        jets: that calibrate, of which 60 % test.
        promised: the share of the simulations in which a policy passes.
        cost: mean cost in the simulations, as a share of the full model's; 1 where no policy passes.
        parts: of the jets, which have enough of them for a test.
    """

    jets: int
    promised: float
    cost: float
    parts: int


@final
@dataclass(frozen=True)
class _Losses:
    """One risk in S simulations of the C policies, and the losses of the jets that shaped these."""

    risk: Risk
    lost: Counts
    gained: Counts
    jets: Counts
    shaped: Sequence[NetLosses]

    def p_value(self, simulation: int, policy: int, delta: float) -> float:
        found = (float(counts[simulation, policy]) for counts in (self.lost, self.gained, self.jets))
        return p_value(self.risk, NetLosses(*found), self.shaped[policy], delta)


def plan(answers: Answers, settings: Settings, sizes: Sequence[int] = SIZES) -> list[PlannedSize]:
    """Simulate calibrations with several numbers of jets.

    The pilot is divided like calibration jets. One part shapes a sequence of policies, which all simulations test: as
    many of its jets as a calibration of that size has for it, or all of them; more would shape better policies. The
    jets of a simulated test are drawn from the other part with random weights (Bayesian bootstrap, Ann. Statist. 9
    (1981) 130), so that the results include what the pilot does not know.

    Args:
        answers: of all exits for the pilot, without temperatures.
        settings: of the calibration.
        sizes: numbers of calibration jets.

    Returns:
        one entry per size; none if no policy of all that the pilot shapes saves anything at a risk near the allowed
        one.

    Raises:
        UsageError: the target promises nothing, or the method is not ``ltt``.
        DataError, RunError: as for :func:`phaze_ee.exits.calibrate.calibrate`.
    """
    check(settings)
    if isinstance(settings.target, Budget) or settings.method != "ltt":
        raise UsageError("--plan simulates tests of a promise; set another exit_target than 'budget', and 'ltt'")
    relative = relative_answers(answers, settings.class_prior)
    whole = _Pilot.of(relative, settings, None)
    jets = len(whole.sample.testing)
    if not whole.sequence or not jets:
        return []
    share_SN = np.random.default_rng(settings.seed).dirichlet(np.ones(jets), size=_SIMULATIONS)
    fewer = len(whole.sample.shaping)
    found = []
    for size in sizes:
        shaping = round(SHAPING * size)
        pilot = _Pilot.of(relative, settings, shaping) if shaping < fewer else whole
        found.append(_planned(size, pilot, share_SN, settings) if pilot.sequence else PlannedSize(size, 0.0, 1.0, 0))
    return found


@final
@dataclass(frozen=True)
class _Pilot:
    """Jets of a pilot in their two parts, some of the policies that the first part shapes, and the risks of both.

    ``whole`` of the risks are for all jets, the others for parts of them.
    """

    sample: Sample
    sequence: Sequence[Candidate]
    shaping: Sequence[Risk]
    testing: Sequence[Risk]
    whole: int

    @classmethod
    def of(cls, answers: Answers, settings: Settings, most_shaping: int | None) -> Self:
        """Return the pilot with at most this many jets that shape policies."""
        sample = prepared(answers, settings, most_shaping)
        target, conditions = sample.target, settings.conditions
        shaping = conditions.risks(target.shaping_risks(sample.shaping), sample.shaping)
        testing = conditions.risks(target.risks(sample.testing), sample.testing)
        sequence = policies(target.scores(sample.shaping, settings.score), sample, shaping, settings)
        last = len(sequence) - 1
        thinned = sorted({round(index) for index in np.linspace(0, last, _POLICIES)}) if sequence else []
        return cls(sample, [sequence[index] for index in thinned], shaping, testing, len(target.risks(sample.testing)))


def _planned(size: int, pilot: _Pilot, share_SN: Float[np.ndarray, "S N"], settings: Settings) -> PlannedSize:
    sample, sequence, whole = pilot.sample, pilot.sequence, pilot.whole
    jets, delta = round((1 - SHAPING) * size), settings.delta
    counted = [
        (before, risk)
        for index, (before, risk) in enumerate(zip(pilot.shaping, pilot.testing, strict=True))
        if index < whole or risk.counts_N.mean() * jets >= worth_testing(risk, delta)
    ]
    parts = len(counted) - whole
    if len(pilot.testing) > whole and not parts:
        return PlannedSize(size, 0.0, 1.0, 0)
    where = [tuple(part.exit_index(one.policy) for part in (sample.shaping, sample.testing)) for one in sequence]
    drawn_SN = np.random.default_rng(settings.seed).multinomial(jets, share_SN).astype(float)
    factor = SHAPING * size / len(sample.shaping)
    losses = [_simulated(before, risk, where, drawn_SN, factor) for before, risk in counted]
    cost = [
        sample.testing.costs.mean(at[1], one.policy.exits) / sample.testing.costs.mean_full
        for at, one in zip(where, sequence, strict=True)
    ]
    found = [
        last_passing(
            (max(own.p_value(simulation, policy, delta) for own in losses) for policy in range(len(sequence))), delta
        )
        for simulation in range(_SIMULATIONS)
    ]
    passed = [1.0 if index is None else cost[index] for index in found]
    return PlannedSize(size, 1 - found.count(None) / _SIMULATIONS, float(np.mean(passed)), parts)


def _simulated(
    before: Risk,
    risk: Risk,
    where: Sequence[tuple[ExitIndex, ...]],
    drawn_SN: Float[np.ndarray, "S N"],
    factor: float,
) -> _Losses:
    """Return the losses of a risk for the policies, if the jets of the pilot are drawn this often."""
    last = len(risk.lost_EN) - 1
    lost_CN = np.stack([at_exit(risk.lost_EN, index_N) for _, index_N in where])
    counts_CN = lost_CN | risk.counts_N
    if risk.leaving_only:
        counts_CN &= np.stack([index_N < last for _, index_N in where])
    gained_EN = np.zeros_like(risk.lost_EN) if risk.gained_EN is None else risk.gained_EN
    gained_CN = np.stack([at_exit(gained_EN, index_N) for _, index_N in where])
    shaped = [before.net_losses(index_N) for index_N, _ in where]
    lost, gained, jets = (drawn_SN @ value_CN.T.astype(float) for value_CN in (lost_CN, gained_CN, counts_CN))
    expected = [losses.expected(factor * losses.jets) if losses.jets else losses for losses in shaped]
    return _Losses(risk, lost, gained, jets, expected)
