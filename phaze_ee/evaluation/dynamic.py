"""Evaluates a stored exit policy on labelled jets, from the answers of all exits."""

from collections.abc import Sequence

import numpy as np

from phaze_ee.evaluation.audits import LEAST_BACKGROUND, MASS, SignalCut, audited_observables, exit_rates, mass_audit
from phaze_ee.evaluation.efficiency import relative_efficiencies
from phaze_ee.evaluation.metrics import against_full, evaluate_exit, expected_calibration_error
from phaze_ee.evaluation.operating_point import (
    bounds,
    confidence,
    cost_accuracy_area,
    exit_behaviour,
    exits_per_class,
    fraction,
    operating_point,
)
from phaze_ee.evaluation.regression import evaluate_targets
from phaze_ee.evaluation.rejection import DEFAULT_EFFICIENCY
from phaze_ee.exits.answers import Answers, ExitIndex
from phaze_ee.exits.conditions import ALL_JETS, promised
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.policy_file import CostCurve, ExitPolicyFile, Guarantee, KeptPolicy
from phaze_ee.exits.promise import figures
from phaze_ee.exits.targets import AnyTarget, Risk, SignalEfficiency
from phaze_ee.names import class_title, short
from phaze_ee.results.evaluation import EvaluationResults, ExitEvaluation
from phaze_ee.results.policy import (
    CurvePoint,
    DynamicResults,
    ExitBehaviour,
    ExitRates,
    Fraction,
    MassAudit,
    PolicyEvaluation,
    RealisedFigures,
    RealisedRisk,
    ScoreCurve,
    StepEvaluation,
)

# Another mix of classes than in the calibration is noted from this difference of a share on, and this many errors.
_LEAST_SHIFT, _SIGNIFICANT = 0.02, 4


def evaluate_dynamic(
    answers: Answers, kept: KeptPolicy, background: str | None, evaluation: EvaluationResults
) -> DynamicResults:
    """Compare a policy with other policies, and with what no policy can beat, on the same jets.

    Everything is computed from the stored answers; the network does not run again.

    Args:
        answers: of all exits for labelled jets, without temperatures, with costs in MACs.
        kept: a policy for this model.
        background: the class that rejections refer to; None: no rejections.
        evaluation: the evaluation of the exits on the same answers, for the names of project, model and files.

    Raises:
        UsageError: the policy has another number of exits than the tagger.
    """
    policy_file, policy = kept.file, kept.file.policy()
    policy.check(answers.exit_count)
    answers = answers.tempered(policy.temperatures)
    exit_index_N = answers.exit_index(policy)
    behaviour = {
        name: exit_behaviour(answers, index, exit_index_N, background) for index, name in enumerate(answers.exit_names)
    }
    mass = _mass_audit(answers, exit_index_N, background, policy_file.target)
    return DynamicResults(
        project=evaluation.project,
        model=evaluation.model,
        model_hash=evaluation.model_hash,
        data_hash=evaluation.data_hash,
        history_hash=evaluation.history_hash,
        policy_hash=kept.hash,
        precision=evaluation.precision,
        classes=evaluation.classes,
        jets=evaluation.jets,
        files=evaluation.files,
        moved=policy_file.move,
        policy=_policy_evaluation(answers, policy, policy_file, exit_index_N, background),
        mixture=_mixture(answers, policy, exit_index_N, background),
        prior=_with_prior(answers, policy, policy_file),
        exits=behaviour,
        curves=[_score_curve(curve, answers, list(behaviour.values()), background) for curve in policy_file.curves],
        bounds=bounds(answers, background),
        sequence=_sequence(answers, policy_file, background),
        exit_rates=_exit_rates(answers, exit_index_N, background),
        efficiencies=relative_efficiencies(answers, exit_index_N, policy_file),
        mass=mass if mass is not None and _passing(mass) else None,
        notes=_notes(answers, policy_file, evaluation, mass),
    )


def target_title(target: AnyTarget) -> str:
    """Return a target as one line: its name and its parameters."""
    # Where jets leave below the cut only, no background is added.
    unused = {"background_growth"} if isinstance(target, SignalEfficiency) and target.form == "reject" else set()
    values = target.model_dump(exclude={"name", *unused}, exclude_none=True)
    return f"{target.name}: " + ", ".join(f"{name} {short(value)}" for name, value in values.items())


def realised_risks(
    answers: Answers, target: AnyTarget, exit_index_N: ExitIndex, promise: Guarantee | None = None
) -> list[RealisedRisk]:
    """Return the risks of a target as they are on these jets; a risk for which no jet counts is left out.

    Args:
        answers: with the temperatures of the policy.
        target: of the policy.
        exit_index_N: where the jets leave.
        promise: says for which parts of the jets the policy promises something; None: for all jets alone.
    """
    return _on_jets(_risks(answers, target, promise), exit_index_N)


def working_point(answers: Answers, target: AnyTarget, background: str | None) -> SignalCut | None:
    """Return the working point of the target; else 50 % of the first signal class; None without a background."""
    if isinstance(target, SignalEfficiency):
        return SignalCut(target.signal, target.background, target.efficiency)
    if background is None:
        return None
    signal = next(name for name in answers.class_names if name != background)
    return SignalCut(signal, background, DEFAULT_EFFICIENCY)


def _risks(answers: Answers, target: AnyTarget, promise: Guarantee | None) -> list[Risk]:
    if _absent(answers, target):
        return []
    conditions, untested = (ALL_JETS, []) if promise is None else (promise.conditions, promise.untested)
    return promised(target, conditions, untested, answers)


def _on_jets(risks: Sequence[Risk], exit_index_N: ExitIndex) -> list[RealisedRisk]:
    found = [(risk, risk.net_losses(exit_index_N)) for risk in risks]
    return [
        RealisedRisk(
            name=risk.name,
            epsilon=risk.epsilon,
            rate=Fraction(value=losses.mean, error=losses.error, jets=round(losses.jets)),
        )
        for risk, losses in found
        if losses.jets
    ]


def _policy_evaluation(
    answers: Answers, policy: ThresholdPolicy, file: ExitPolicyFile, exit_index_N: ExitIndex, background: str | None
) -> PolicyEvaluation:
    logits_NK = answers.mixture(exit_index_N)
    class_N = logits_NK.argmax(axis=1)
    correct_N = class_N == answers.label_N
    lost_N = answers.correct_EN[-1].astype(int) - correct_N
    return PolicyEvaluation(
        **dict(_curve_point(policy, answers, exit_index_N, background)),
        score=policy.score.name,
        target=target_title(file.target),
        expected_calibration_error=expected_calibration_error(confidence(logits_NK), correct_N),
        accuracy_drop=float(lost_N.mean()),
        accuracy_drop_error=float(lost_N.std() / np.sqrt(len(lost_N))),
        disagreement=fraction(class_N != answers.class_EN[-1]),
        risks=realised_risks(answers, file.target, exit_index_N, file.guarantee),
        exits_per_class=exits_per_class(answers, exit_index_N),
    )


def _mixture(
    answers: Answers, policy: ThresholdPolicy, exit_index_N: ExitIndex, background: str | None
) -> ExitEvaluation:
    macs = answers.costs.mean(exit_index_N, policy.exits)
    logits_NK = answers.mixture(exit_index_N)
    found = evaluate_exit(logits_NK, answers.label_N, answers.class_names, background)
    compared = against_full(logits_NK.argmax(axis=1) == answers.label_N, answers.correct_EN[-1])
    targets = evaluate_targets(answers.predictions, exit_index_N)
    return found.model_copy(
        update={"mean_macs": macs, "macs_share": macs / answers.costs.mean_full, "targets": targets, **compared}
    )


def _with_prior(answers: Answers, policy: ThresholdPolicy, policy_file: ExitPolicyFile) -> RealisedFigures | None:
    """Return cost and accuracy for the class prior of the calibration; None without one, or without a class of it."""
    chosen = policy_file.realised.get("prior")
    if chosen is None or _absent_of_prior(answers, policy_file):
        return None
    return figures(answers, policy, chosen.class_shares)


def _curve_point(
    policy: ThresholdPolicy, answers: Answers, exit_index_N: ExitIndex, background: str | None
) -> CurvePoint:
    point = operating_point(answers, exit_index_N, policy.exits, background)
    return CurvePoint(**dict(point), thresholds=list(policy.thresholds))


def _score_curve(
    curve: CostCurve, answers: Answers, exits: Sequence[ExitBehaviour], background: str | None
) -> ScoreCurve:
    policies = (ThresholdPolicy(curve.score, thresholds) for thresholds in curve.thresholds)
    points = sorted(
        (_curve_point(policy, answers, answers.exit_index(policy), background) for policy in policies),
        key=lambda point: point.mean_macs,
    )
    area = cost_accuracy_area(points, exits[0].all_leave, exits[-1].all_leave)
    return ScoreCurve(score=curve.score.name, points=points, area=area)


def _sequence(answers: Answers, file: ExitPolicyFile, background: str | None) -> list[StepEvaluation]:
    """Return the policies of the sequence, from the full model to the fastest."""
    if file.sequence is None:
        return []
    risks, names = _risks(answers, file.target, file.guarantee), [risk.name for risk in file.guarantee.risks]
    found = []
    for step in file.sequence.steps:
        policy = file.sequence.policy(step)
        index_N, prior = answers.exit_index(policy), _with_prior(answers, policy, file)
        found.append(
            StepEvaluation(
                **dict(_curve_point(policy, answers, index_N, background)),
                passed=step.passed,
                is_policy=(policy.score, step.thresholds) == (file.score, file.thresholds),
                risks=_on_jets(risks, index_N),
                upper_limits=dict(zip(names, step.upper_limits, strict=False)),
                prior_share=None if prior is None else prior.cost_share,
            )
        )
    return found


def _exit_rates(answers: Answers, exit_index_N: ExitIndex, background: str | None) -> list[ExitRates]:
    """Return the exit rates of all jets, and of the background alone, where the class explains nothing."""
    samples = {"all": np.ones(len(answers), dtype=bool)}
    if background is not None:
        samples[background] = answers.of_class(background)
    observables = audited_observables(answers)
    return [
        rates
        for sample, chosen_N in samples.items()
        for rates in exit_rates(observables, exit_index_N, answers.exit_count + 1, sample, chosen_N)
    ]


def _mass_audit(
    answers: Answers, exit_index_N: ExitIndex, background: str | None, target: AnyTarget
) -> MassAudit | None:
    point = working_point(answers, target, background)
    if point is None or MASS not in answers.observers:
        return None
    return mass_audit(answers, exit_index_N, answers.observers[MASS].astype(np.float64), point)


def _passing(mass: MassAudit) -> bool:
    return mass.full_model.jets + mass.mixture.jets > 0


def _absent(answers: Answers, target: AnyTarget) -> list[str]:
    """Return the classes that the target needs and that have no jets."""
    needed = [target.signal, target.background] if isinstance(target, SignalEfficiency) else []
    return [name for name in needed if not answers.of_class(name).any()]


def _absent_of_prior(answers: Answers, policy_file: ExitPolicyFile) -> list[str]:
    """Return the classes that have a share in the class prior of the calibration and no jets here."""
    chosen = policy_file.realised.get("prior")
    shares = {} if chosen is None else chosen.class_shares or {}
    return [name for name, share in shares.items() if share and not answers.of_class(name).any()]


def _other_mix(policy_file: ExitPolicyFile, evaluation: EvaluationResults) -> str | None:
    """Return a note if the promise is for another mix of classes; None: it is not, or the mix plays no part."""
    ours, theirs = evaluation.jets_per_class, policy_file.calibration.jets_per_class
    by_class = isinstance(policy_file.target, SignalEfficiency) or policy_file.guarantee.conditions.per_class
    if by_class or not policy_file.guarantee.holds or theirs is None:
        return None
    here, there = (np.array([counts.get(name, 0) for name in ours], dtype=float) for counts in (ours, theirs))
    jets, calibrated = max(1.0, here.sum()), max(1.0, there.sum())
    pooled_K = (here + there) / (jets + calibrated)
    shift_K = here / jets - there / calibrated
    error_K = np.sqrt(pooled_K * (1 - pooled_K) * (1 / jets + 1 / calibrated))
    largest = int(np.abs(shift_K).argmax())
    if abs(shift_K[largest]) <= max(_LEAST_SHIFT, _SIGNIFICANT * error_K[largest]):
        return None
    name, share = list(ours)[largest], 100 * here[largest] / jets
    return (
        f"{share:.0f} % of these jets are {class_title(name)} and {100 * there[largest] / calibrated:.0f} % of the "
        "calibration jets: the promise is for their mix of classes, not for this one"
    )


def _notes(
    answers: Answers, policy_file: ExitPolicyFile, evaluation: EvaluationResults, mass: MassAudit | None
) -> list[str]:
    notes = [] if policy_file.move is None else [f"the policy has {policy_file.move}"]
    if policy_file.temperatures is not None and not policy_file.lets_jets_leave and len(answers.class_names) > 2:
        notes.append(
            f"no jet leaves early: the policy is the full model, whose logits it divides by a temperature of "
            f"{policy_file.temperatures[-1]:.3g}; AUC and ECE depend on it"
        )
    if absent := _absent(answers, policy_file.target):
        notes.append(f"no realised risk of the policy's target: these files hold no jets of {', '.join(absent)}")
    if absent := _absent_of_prior(answers, policy_file):
        notes.append(f"no cost for class_prior: these files hold no jets of {', '.join(absent)}")
    if (mix := _other_mix(policy_file, evaluation)) is not None:
        notes.append(mix)
    if set(policy_file.calibration.files) & set(evaluation.files):
        notes.append("the policy was calibrated on jets of the same files: its figures are not those of new jets")
    if mass is None:
        notes.append(
            f"no mass shapes: they need {MASS} among the observers, jets of a signal, and a background with "
            f"{LEAST_BACKGROUND} jets of finite mass"
        )
    elif not _passing(mass):
        notes.append(
            f"no mass shapes: none of {sum(mass.uncut_counts):,} jets of {mass.background} passes the cut for "
            f"{100 * mass.signal_efficiency:g} % of {mass.signal}"
        )
    return notes
