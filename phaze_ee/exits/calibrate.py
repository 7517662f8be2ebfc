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
from phaze_ee.exits.answers import Answers, check_finite
from phaze_ee.exits.bounds import last_conformal, last_passing
from phaze_ee.exits.candidates import Candidate, candidates, cost_curve
from phaze_ee.exits.conditions import ALL_JETS, Conditions, Untested
from phaze_ee.exits.costs import prior_weights
from phaze_ee.exits.fits import fit_temperatures
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.safer import safer_policies
from phaze_ee.exits.scores import ExitScore
from phaze_ee.exits.shortfall import Shortfall, alike_scores, nothing_saves
from phaze_ee.exits.steps import Step, some_steps
from phaze_ee.exits.targets import Budget, NetAccuracyDrop, Risk, SignalEfficiency, Target, wrong_answers
from phaze_ee.exits.tested import TestedRisk, needed_for, p_value, tested_risk, worth_testing
from phaze_ee.machine import Precision

# The share of the jets that shape the policy; the others test it. A test of a small risk needs the larger part.
SHAPING = 0.4
_BUDGET_POINTS = 200
# The first policy that is tested among jets that leave should have a p-value of at most δ divided by this.
_MARGIN = 5

Method = Literal["ltt", "crc"]


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
        conditions: the parts of the jets in each of which the target must be kept too.
    """

    target: Target
    score: str | None = None
    delta: float = 0.05
    method: Method = "ltt"
    temperatures: bool = True
    seed: int = 0
    class_prior: Mapping[str, float] | None = None
    precision: Precision = "float32"
    conditions: Conditions = ALL_JETS


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
        answers: for all jets, with costs as shares of the full model's mean.
        shaping: answers for the jets that shaped the policy, divided by the temperatures.
        testing: answers for the jets that tested it, divided by the temperatures.
        untested: the parts of the jets that had too few of them for a test.
        safer: safer policies that passed the same tests, with their tested risks; the full model is the last.
        steps: of the sequence that was tested, the full model first; with a budget, of the policies to choose from.
    """

    policy: ThresholdPolicy
    target: Target
    risks: list[TestedRisk]
    reason: str | None
    answers: Answers
    shaping: Answers
    testing: Answers
    more_jets: int | None = None
    untested: Sequence[Untested] = ()
    safer: Sequence[tuple[ThresholdPolicy, list[TestedRisk]]] = ()
    steps: Sequence[Step] = ()


def calibrate(answers: Answers, settings: Settings) -> Calibration:
    """Choose the policy of least mean cost that keeps the target.

    A part of the jets shapes temperatures, cut, gates and a sequence of policies from the safest to the fastest. The
    other part tests the policies in this order (:func:`phaze_ee.exits.bounds.last_passing`).

    Each threshold lies midway between two scores of neighbouring jets that shaped it, and nowhere among many scores
    that are equal to within rounding, which differs between forms of the network
    (:func:`phaze_ee.exits.rounding.joined`). The promise does not depend on this choice: the policies are fixed,
    wherever their thresholds lie, before a jet tests them. A threshold between the scores of jets that test it would
    depend on them.

    Args:
        answers: of all exits, without temperatures.
        settings: the target and how to reach it.

    Raises:
        DataError: the target or the class prior needs true classes that are unknown, or a class that has no jets; an
            observable of the conditions is unknown.
        RunError: a logit is not finite.
        UsageError: the score, the method or the conditions do not suit the target, or the class prior names an unknown
            class.
    """
    check(settings)
    sample = prepared(relative_answers(answers, settings.class_prior), settings)
    shaping, testing, target = sample.shaping, sample.testing, sample.target
    scores = target.scores(shaping, settings.score)
    untested: list[Untested] = []
    risks = _Risks((), ())
    if isinstance(target, Budget):
        found = _within_budget(scores, shaping, target.cost)
    else:
        risks, untested = _risks(sample, settings)
        found = _tested(scores, sample, risks, untested, settings)

    def tempered(policy: ThresholdPolicy) -> tuple[ThresholdPolicy, list[TestedRisk]]:
        policy = ThresholdPolicy(policy.score, policy.thresholds, sample.temperatures)
        return policy, _observe(policy, sample, risks, settings.delta)

    policy, observed = tempered(found.policy)
    full = _full_model(found.policy.score, shaping)
    return Calibration(
        policy,
        target,
        observed,
        found.reason,
        sample.answers,
        shaping,
        testing,
        found.more_jets,
        untested,
        [tempered(policy) for policy in found.safer],
        [Step(full, _observe(full, sample, risks, settings.delta), passed=True), *found.steps],
    )


def check(settings: Settings) -> None:
    """Check that target, method and conditions go together.

    Raises:
        UsageError: they do not.
    """
    settings.conditions.check(settings.target)
    monotone = not isinstance(settings.target, NetAccuracyDrop) and not settings.conditions.leaving
    if settings.method == "crc" and not monotone:
        what = "promise_leaving" if settings.conditions.leaving else "exit_target = 'net_accuracy_drop'"
        raise UsageError(f"{what} can fall from one policy to the next; use risk_control = 'ltt'")


@final
@dataclass(frozen=True)
class Sample:
    """Calibration jets in their two parts, divided by the temperatures, and the target with its cut."""

    answers: Answers
    shaping: Answers
    testing: Answers
    temperatures: Sequence[float] | None
    target: Target


def prepared(answers: Answers, settings: Settings, most_shaping: int | None = None) -> Sample:
    """Divide jets into those that shape policies and those that test them, and fit temperatures and cut to the first.

    Args:
        answers: with relative costs (:func:`relative_answers`), without temperatures.
        settings: of the calibration. With a budget nothing is promised, so all jets are in both parts.
        most_shaping: how many jets at most shape policies; others of them have no use then. None: all of them.
    """
    target = settings.target
    shaping, testing = (answers, answers) if isinstance(target, Budget) else split(answers, settings.seed)
    if most_shaping is not None and most_shaping < len(shaping):
        drawn_M = np.random.default_rng(settings.seed).permutation(len(shaping))[:most_shaping]
        shaping = shaping.select(np.sort(drawn_M))
    temperatures = fit_temperatures(shaping) if settings.temperatures and shaping.labelled else None
    shaping, testing = shaping.tempered(temperatures), testing.tempered(temperatures)
    if isinstance(target, SignalEfficiency):
        target = target.with_cut(shaping)
    return Sample(answers, shaping, testing, temperatures, target)


def relative_answers(answers: Answers, class_prior: Mapping[str, float] | None) -> Answers:
    """Return the answers with costs as shares of the full model's mean cost under a class prior.

    The logits stay as the engine gives them: a score in another precision would be another score where it saturates.

    Raises:
        RunError: a logit is not finite.
        DataError, UsageError: the prior does not fit the jets (:func:`phaze_ee.exits.costs.prior_weights`).
    """
    check_finite(answers.logits_ENK)
    weight_N = prior_weights(answers.label_N, answers.class_names, class_prior)
    return replace(answers, costs=answers.costs.relative_to_full_model(weight_N))


def split(answers: Answers, seed: int) -> tuple[Answers, Answers]:
    """Return the jets that shape policies (40 %) and those that test them, drawn at random."""
    order = np.random.default_rng(seed).permutation(len(answers))
    count = round(SHAPING * len(answers))
    return answers.select(np.sort(order[:count])), answers.select(np.sort(order[count:]))


def _within_budget(scores: Sequence[ExitScore], answers: Answers, cost: float) -> "_Found":
    errors = wrong_answers(answers)
    curves = [cost_curve(score, answers, errors, _BUDGET_POINTS) for score in scores]
    affordable = [(candidate, curve) for curve in curves for candidate in curve if candidate.cost <= cost]
    if not affordable:
        cheapest = answers.costs.mean(answers.all_at(0))
        reason = f"no policy costs {cost:.3g} of the full model or less: its first exit costs {cheapest:.3g}"
        return _Found(_full_model(scores[0], answers), reason, steps=_untested_steps(curves[0]))
    best, curve = min(affordable, key=lambda found: found[0].risk)
    return _Found(best.policy, steps=_untested_steps(curve, best))


def _untested_steps(curve: Sequence[Candidate], chosen: Candidate | None = None) -> list[Step]:
    """Return the policies of a cost curve from the slowest on, without the full model at its end."""
    needed = [] if chosen is None else [chosen.policy]
    return some_steps(curve[-2::-1], [()] * (len(curve) - 1), None, needed)


@final
@dataclass(frozen=True)
class _Risks:
    """The same risks on the jets that shape policies and on those that test them."""

    shaping: Sequence[Risk]
    testing: Sequence[Risk]


def _risks(sample: Sample, settings: Settings) -> tuple[_Risks, list[Untested]]:
    """Return the risks that are tested, and the parts of the jets with too few of them.

    The number of jets in a part decides, which is known before any of them tests a policy.
    """
    shaping = settings.conditions.risks(sample.target.shaping_risks(sample.shaping), sample.shaping)
    testing = settings.conditions.risks(sample.target.risks(sample.testing), sample.testing)
    whole, untested = len(sample.target.risks(sample.testing)), []
    for risk in testing[whole:]:
        jets, needed = int(risk.counts_N.sum()), worth_testing(risk, settings.delta)
        if jets < needed:
            more = math.ceil(needed / jets * len(sample.answers)) - len(sample.answers) if jets else None
            part = risk.name.split(", ", 1)[1]
            untested.append(Untested(name=risk.name, part=part, jets=jets, needed=needed, more_jets=more))
    names = {part.name for part in untested}
    kept = ([risk for risk in risks if risk.name not in names] for risks in (shaping, testing))
    return _Risks(*kept), untested


@final
@dataclass(frozen=True)
class _Found:
    """A policy, why it is the full model, how many more jets would let one pass, safer policies that passed, steps."""

    policy: ThresholdPolicy
    reason: str | None = None
    more_jets: int | None = None
    safer: Sequence[ThresholdPolicy] = ()
    steps: Sequence[Step] = ()


def _tested(
    scores: Sequence[ExitScore], sample: Sample, risks: _Risks, untested: Sequence[Untested], settings: Settings
) -> _Found:
    full, jets = _full_model(scores[0], sample.shaping), len(sample.answers)
    whole = len(sample.target.risks(sample.shaping))
    if untested and len(risks.testing) == whole:
        most = max((part.more_jets for part in untested if part.more_jets is not None), default=None)
        return _Found(
            full,
            f"no part has enough jets for a test: {'; '.join(map(str, untested))}; add jets, or join parts",
            most,
        )
    sequence = policies(scores, sample, risks.shaping, settings)
    observed = [_observe(one.policy, sample, risks, settings.delta) for one in sequence]
    chosen = _choose(observed, settings)
    safer = [] if chosen is None else safer_policies(sequence, chosen)
    steps = some_steps(sequence, observed, chosen, safer)
    alike = alike_scores(scores, sample.shaping, tempered=sample.temperatures is not None) if chosen is None else ""
    if chosen is not None:
        return _Found(sequence[chosen].policy, safer=safer, steps=steps)
    if not sequence:
        return _Found(full, nothing_saves(sample.shaping) + alike)
    index_N = sample.testing.exit_index(sequence[0].policy)
    short = [
        Shortfall(
            tested.name,
            tested.epsilon,
            tested.lost,
            tested.jets,
            jets,
            needed_for(risk, risk.net_losses(index_N), settings.delta),
        )
        for tested, risk in zip(observed[0], risks.testing, strict=True)
        if _choose([[tested]], settings) is None
    ]
    missing = [one.more_jets for one in short if one.more_jets is not None]
    more_jets = max(missing) if len(missing) == len(short) else None
    return _Found(full, "; ".join(map(str, short)) + alike, more_jets, steps=steps)


def policies(scores: Sequence[ExitScore], sample: Sample, risks: Sequence[Risk], settings: Settings) -> list[Candidate]:
    """Return the policies in the order in which they are tested, from the safest.

    If only jets that leave count, the safest policies let too few leave for a test. Then the first is the one that the
    jets which shape the policies show to be safe, if there were as many of them as of those that test.
    """
    sequence = candidates(scores, sample.shaping, risks)
    if not settings.conditions.leaving:
        return sequence
    factor = len(sample.testing) / max(1, len(sample.shaping))

    def expected(candidate: Candidate) -> float:
        found = [risk.net_losses(sample.shaping.exit_index(candidate.policy)) for risk in risks]
        later = [losses.expected(factor * losses.jets) if losses.jets else losses for losses in found]
        return max(p_value(*values, settings.delta) for values in zip(risks, later, found, strict=True))

    p_values = [expected(candidate) for candidate in sequence]
    first = next((index for index, value in enumerate(p_values) if value <= settings.delta / _MARGIN), None)
    return sequence[p_values.index(min(p_values)) if first is None and p_values else first or 0 :]


def _observe(policy: ThresholdPolicy, sample: Sample, risks: _Risks, delta: float) -> list[TestedRisk]:
    """Test risks on the second part of the jets; the first part decides how much to bet on net losses."""
    shaping_N, testing_N = (answers.exit_index(policy) for answers in (sample.shaping, sample.testing))
    return [
        tested_risk(risk, testing_N, before.net_losses(shaping_N), delta)
        for before, risk in zip(risks.shaping, risks.testing, strict=True)
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
