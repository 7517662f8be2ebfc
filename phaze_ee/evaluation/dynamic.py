"""A tagger whose jets leave where a stored policy says, judged on labelled jets by the answers of all exits."""

from collections.abc import Sequence

import numpy as np
import torch

from phaze_ee.evaluation.audits import MASS, WorkingPoint, audited_observables, exit_rates, mass_audit
from phaze_ee.evaluation.metrics import expected_calibration_error
from phaze_ee.evaluation.operating_point import (
    Answers,
    ExitIndex,
    bounds,
    confidence,
    cost_accuracy_area,
    exit_behaviour,
    exits_per_class,
    fraction,
    operating_point,
)
from phaze_ee.evaluation.rejection import DEFAULT_EFFICIENCY
from phaze_ee.exits.answers import CalibrationJets
from phaze_ee.exits.policies import ThresholdPolicy, exit_index
from phaze_ee.exits.policy_file import CostCurve, ExitPolicyFile
from phaze_ee.exits.targets import AnyTarget, SignalEfficiency
from phaze_ee.models.tagger import Tagger
from phaze_ee.results.evaluation import EvaluationResults
from phaze_ee.results.policy import (
    CurvePoint,
    DynamicResults,
    ExitBehaviour,
    ExitRates,
    MassAudit,
    PolicyEvaluation,
    RealisedRisk,
    ScoreCurve,
)
from phaze_ee.types import Predictions


def evaluate_dynamic(
    predictions: Predictions,
    policy_file: ExitPolicyFile,
    tagger: Tagger,
    background: str | None,
    evaluation: EvaluationResults,
) -> DynamicResults:
    """Judge a policy, its rivals and their bounds on the same jets as the exits, without running the network again.

    Args:
        predictions: the answers of all exits for labelled jets.
        policy_file: made for this model.
        tagger: the form that the engine runs, to count multiply-accumulates.
        background: the class that rejections refer to; None: there are none.
        evaluation: of the same predictions; says where they come from.

    Raises:
        UsageError: the policy does not fit the tagger.
    """
    policy = policy_file.policy()
    policy.check(len(tagger.exit_stages))
    answers = Answers.of(predictions, policy, tagger, background)
    exit_index_N = _leave(policy, answers)
    behaviour = {
        name: exit_behaviour(answers, index, exit_index_N) for index, name in enumerate(predictions.exit_names)
    }
    mass = _mass_audit(answers, exit_index_N, predictions, policy_file.target)
    return DynamicResults(
        project=evaluation.project,
        model=evaluation.model,
        model_hash=evaluation.model_hash,
        classes=evaluation.classes,
        jets=evaluation.jets,
        files=evaluation.files,
        policy=_policy_evaluation(answers, policy, policy_file.target, exit_index_N),
        exits=behaviour,
        curves=[_score_curve(curve, answers, list(behaviour.values())) for curve in policy_file.curves],
        bounds=bounds(answers),
        exit_rates=_exit_rates(answers, predictions, exit_index_N),
        mass=mass if mass is not None and _passing(mass) else None,
        notes=_notes(policy_file, evaluation, mass, _absent(answers, policy_file.target)),
    )


def _leave(policy: ThresholdPolicy, answers: Answers) -> ExitIndex:
    exit_index_N: ExitIndex = exit_index(policy, torch.from_numpy(answers.logits_ENK)).numpy()
    return exit_index_N


def _curve_point(policy: ThresholdPolicy, answers: Answers) -> CurvePoint:
    point = operating_point(answers, _leave(policy, answers), policy.exits)
    return CurvePoint(**dict(point), thresholds=list(policy.thresholds))


def _policy_evaluation(
    answers: Answers, policy: ThresholdPolicy, target: AnyTarget, exit_index_N: ExitIndex
) -> PolicyEvaluation:
    logits_NK = answers.mixture(exit_index_N)
    right_N = logits_NK.argmax(axis=1) == answers.label_N
    lost_N = answers.right_EN[-1].astype(int) - right_N
    return PolicyEvaluation(
        **dict(_curve_point(policy, answers)),
        score=policy.score.name,
        target=target_title(target),
        expected_calibration_error=expected_calibration_error(confidence(logits_NK), right_N),
        accuracy_drop=float(lost_N.mean()),
        accuracy_drop_error=float(lost_N.std() / np.sqrt(len(lost_N))),
        disagreement=fraction(logits_NK.argmax(axis=1) != answers.predicted_EN[-1]),
        risks=realised_risks(answers, target, exit_index_N),
        exits_per_class=exits_per_class(answers, exit_index_N),
    )


def target_title(target: AnyTarget) -> str:
    """Return a target as one line: its name and what it is set to."""
    values = target.model_dump(exclude={"name"}, exclude_none=True)
    return f"{target.name}: " + ", ".join(f"{name} {_short(value)}" for name, value in values.items())


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def realised_risks(answers: Answers, target: AnyTarget, exit_index_N: ExitIndex) -> list[RealisedRisk]:
    """Return what the target holds down, as it is on the judged jets; a risk for which no jet counts is left out."""
    if _absent(answers, target):
        return []
    count = len(answers.label_N)
    jets = CalibrationJets(
        logits_ENK=torch.from_numpy(answers.logits_ENK).double(),
        label_N=answers.label_N,
        cost_EN=np.zeros((answers.last + 1, count)),
        weight_N=np.ones(count),
        class_names=answers.class_names,
    )
    observed = [(risk, *risk.observed(exit_index_N)) for risk in target.risks(jets)]
    return [
        RealisedRisk(name=risk.name, epsilon=risk.epsilon, rate=fraction(np.arange(jets_) < lost))
        for risk, lost, jets_ in observed
        if jets_
    ]


def _absent(answers: Answers, target: AnyTarget) -> list[str]:
    """Return the classes that the target needs and that have no jets."""
    needed = [target.signal, target.background] if isinstance(target, SignalEfficiency) else []
    return [name for name in needed if not (answers.label_N == answers.class_names.index(name)).any()]


def _score_curve(curve: CostCurve, answers: Answers, exits: Sequence[ExitBehaviour]) -> ScoreCurve:
    points = sorted(
        (_curve_point(ThresholdPolicy(curve.score, thresholds), answers) for thresholds in curve.thresholds),
        key=lambda point: point.mean_macs,
    )
    area = cost_accuracy_area(points, exits[0].all_leave, exits[-1].all_leave)
    return ScoreCurve(score=curve.score.name, points=points, area=area)


def _exit_rates(answers: Answers, predictions: Predictions, exit_index_N: ExitIndex) -> list[ExitRates]:
    """Return the exit rates of all jets, and of the background alone: there the class explains nothing."""
    samples = {"all": np.ones(len(predictions), dtype=bool)}
    if answers.background is not None:
        samples[answers.background] = answers.label_N == answers.class_names.index(answers.background)
    observables = audited_observables(predictions)
    return [
        rates
        for sample, chosen_N in samples.items()
        for rates in exit_rates(observables, exit_index_N, answers.last + 1, sample, chosen_N)
    ]


def _mass_audit(
    answers: Answers, exit_index_N: ExitIndex, predictions: Predictions, target: AnyTarget
) -> MassAudit | None:
    point = working_point(answers, target)
    if point is None or MASS not in predictions.observers:
        return None
    return mass_audit(answers, exit_index_N, predictions.observers[MASS].astype(np.float64), point)


def working_point(answers: Answers, target: AnyTarget) -> WorkingPoint | None:
    """Return the target's working point; else 50 % of the first signal, or None without a background."""
    if isinstance(target, SignalEfficiency):
        return WorkingPoint(target.signal, target.background, target.efficiency)
    if answers.background is None:
        return None
    signal = next(name for name in answers.class_names if name != answers.background)
    return WorkingPoint(signal, answers.background, DEFAULT_EFFICIENCY)


def _notes(
    policy_file: ExitPolicyFile, evaluation: EvaluationResults, mass: MassAudit | None, absent: Sequence[str]
) -> list[str]:
    notes = []
    if absent:
        notes.append(f"no realised risk of the policy's target: these files hold no jets of {', '.join(absent)}")
    if set(policy_file.calibration.files) & set(evaluation.files):
        notes.append("the policy was calibrated on jets of the same files: its figures are not those of new jets")
    if mass is None:
        notes.append(f"no mass shapes: they need {MASS} among the observers, a background, and jets of both classes")
    elif not _passing(mass):
        notes.append(
            f"no mass shapes: none of {sum(mass.uncut_counts):,} jets of {mass.background} passes the cut for "
            f"{100 * mass.signal_efficiency:g} % of {mass.signal}"
        )
    return notes


def _passing(mass: MassAudit) -> bool:
    return mass.full_model.jets + mass.mixture.jets > 0
