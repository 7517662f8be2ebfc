"""The promise of a calibration in words, its figures, and the file that holds both."""

from collections.abc import Mapping
from typing import Literal

import torch

from phaze_ee.exits.answers import Answers, at_exit
from phaze_ee.exits.calibrate import Calibration, Method, Settings
from phaze_ee.exits.candidates import cost_curve
from phaze_ee.exits.conditions import ALL_JETS, Conditions
from phaze_ee.exits.costs import prior_weights, weighted_mean, weighted_ratio
from phaze_ee.exits.drift import DriftReference
from phaze_ee.exits.fits import fit_gate, temperatures_at_limit
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.policy_file import CalibrationSample, CostCurve, ExitPolicyFile, Guarantee
from phaze_ee.exits.safer import SaferPolicy
from phaze_ee.exits.scores import Confidence, ExitScore, Margin, NegativeEntropy, Patience
from phaze_ee.exits.shortfall import costly_policy
from phaze_ee.exits.steps import PolicySequence
from phaze_ee.exits.targets import (
    AccuracyDrop,
    Agreement,
    Budget,
    NetAccuracyDrop,
    SignalEfficiency,
    Target,
    wrong_answers,
)
from phaze_ee.results.base import Provenance
from phaze_ee.results.policy import RealisedFigures

_CURVE_SCORES: tuple[ExitScore, ...] = (Confidence(), NegativeEntropy(), Margin(), Patience())
_CURVE_POINTS = 15
_GATE_COST_WEIGHT = 0.3


def policy_file(
    result: Calibration, settings: Settings, provenance: Provenance, *, held_out_of_validation: bool
) -> ExitPolicyFile:
    """Return ``exit_policy.json``: the policy with its promise, its figures, cost curves and drift reference.

    Args:
        result: of the calibration.
        settings: of the calibration.
        provenance: of the model and the calibration jets.
        held_out_of_validation: whether the jets are a share of the validation files.
    """
    policy, shaping, testing = result.policy, result.shaping, result.testing
    realised = _realised(testing, policy, settings.class_prior)
    costly = costly_policy(policy, realised.get("prior", realised["files"]))
    return ExitPolicyFile(
        project=provenance.project,
        model=provenance.model,
        model_hash=provenance.model_hash,
        data_hash=provenance.data_hash,
        history_hash=provenance.history_hash,
        classes=list(testing.class_names),
        exit_names=list(testing.exit_names),
        score=policy.score,
        thresholds=list(policy.thresholds),
        temperatures=None if policy.temperatures is None else list(policy.temperatures),
        target=result.target,
        guarantee=guarantee(result, settings.method, settings.delta, settings.conditions),
        calibration=CalibrationSample(
            files=[str(path) for path in provenance.files],
            held_out_of_validation=held_out_of_validation,
            jets=len(result.answers),
            shaping=len(shaping),
            testing=len(testing),
            seed=settings.seed,
            jets_per_class=result.answers.jets_per_class if result.answers.labelled else None,
        ),
        realised=realised,
        curves=cost_curves(shaping),
        reference=_reference(result),
        notes=[*provenance.notes, *temperatures_at_limit(policy.temperatures, testing.exit_names), *costly],
        precision=settings.precision,
        safer=[
            SaferPolicy(
                score=slower.score,
                thresholds=list(slower.thresholds),
                risks=risks,
                realised=_realised(testing, slower, settings.class_prior),
            )
            for slower, risks in result.safer
        ],
        sequence=PolicySequence.of(result.steps),
    )


def guarantee(result: Calibration, method: Method, delta: float, conditions: Conditions = ALL_JETS) -> Guarantee:
    """Return the promise for jets from the same distribution as the calibration jets."""
    promises = not isinstance(result.target, Budget)
    return Guarantee(
        method=method if promises else "none",
        delta=delta,
        holds=promises and result.reason is None,
        statement=_promise(result, method, delta, conditions),
        risks=result.risks,
        multiplicity="fixed_sequence" if promises and method == "ltt" else None,
        conditions=conditions,
        untested=list(result.untested),
    )


def _realised(
    testing: Answers, policy: ThresholdPolicy, class_prior: Mapping[str, float] | None
) -> dict[Literal["files", "prior"], RealisedFigures]:
    """Return mean cost and accuracy in the fractions of the files, and in those of a class prior if there is one."""
    realised: dict[Literal["files", "prior"], RealisedFigures] = {"files": figures(testing, policy, None)}
    if class_prior is not None:
        realised["prior"] = figures(testing, policy, class_prior)
    return realised


def figures(answers: Answers, policy: ThresholdPolicy, class_prior: Mapping[str, float] | None) -> RealisedFigures:
    """Return mean cost and accuracy of a policy.

    Args:
        answers: of all exits, with the temperatures of the policy.
        policy: where the jets leave.
        class_prior: shares of the classes in the means; None: as the jets have them.

    Raises:
        DataError: a class of the prior has none of these jets, or a jet has no true class.
        UsageError: the prior names an unknown class.
    """
    weight_N = prior_weights(answers.label_N, answers.class_names, class_prior)
    index_N = answers.exit_index(policy)
    spent_N, full_N = answers.costs.spent(index_N, policy.exits), answers.costs.full_N
    class_N = None if class_prior is None else answers.label_N
    share, share_error = weighted_ratio(spent_N, full_N, weight_N, class_N)
    full_macs = answers.costs.unit * weighted_mean(full_N, weight_N)[0]
    correct_N = at_exit(answers.correct_EN, index_N).astype(float)
    accuracy, accuracy_error = weighted_mean(correct_N, weight_N, class_N) if answers.labelled else (None, None)
    full_accuracy = weighted_mean(answers.correct_EN[-1].astype(float), weight_N)[0] if answers.labelled else None
    return RealisedFigures(
        class_shares=None if class_prior is None else dict(class_prior),
        macs=share * full_macs,
        full_macs=full_macs,
        cost_share=share,
        cost_share_error=share_error,
        accuracy=accuracy,
        accuracy_error=accuracy_error,
        full_accuracy=full_accuracy,
        exit_shares={
            name: weighted_mean((index_N == index).astype(float), weight_N)[0]
            for index, name in enumerate(answers.exit_names)
        },
    )


def cost_curves(answers: Answers) -> list[CostCurve]:
    """Return for several scores the policies from the cheapest to the full model, shaped by these jets."""
    gate = fit_gate(answers, answers.label_N if answers.labelled else answers.class_EN[-1], _GATE_COST_WEIGHT)
    errors = wrong_answers(answers)
    curves = ((score, cost_curve(score, answers, errors, _CURVE_POINTS)) for score in (*_CURVE_SCORES, gate))
    return [
        CostCurve(score=score, thresholds=[list(candidate.policy.thresholds) for candidate in curve])
        for score, curve in curves
    ]


def _reference(result: Calibration) -> DriftReference:
    """Return the histograms of the jets that tested the policy, in bins that the other jets chose.

    So the bins do not depend on the jets that are counted in them, and the tests for drift are exact.
    """
    policy, shaping, testing = result.policy, result.shaping, result.testing

    def seen(answers: Answers) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        inputs = {name: torch.from_numpy(value_N) for name, value_N in answers.inputs.items()}
        return answers.tensor_ENK, torch.from_numpy(answers.exit_index(policy)), inputs

    logits_ENK, index_N, inputs = seen(shaping)
    bins = DriftReference.of(policy, logits_ENK, index_N, shaping.class_names, inputs)
    return bins.count(policy, *seen(testing))


def _promise(result: Calibration, method: Method, delta: float, conditions: Conditions) -> str:
    if result.reason is not None:
        return f"the policy is the full model: {result.reason}"
    if isinstance(result.target, Budget):
        return (
            f"the best accuracy found at a mean cost of {result.target.cost:g} of the full model; nothing is promised"
        )
    confidence = f"with confidence {1 - delta:.4g}" if method == "ltt" else "in expectation over calibration samples"
    if conditions.divide and method == "ltt":
        confidence += " for all of these together (fixed sequence: a policy must pass every test)"
    parts = f", among all jets and in {conditions}" if conditions.divide else ""
    whole = f"{_promised_risk(result.target, conditions)}{parts}, {confidence}"
    without = ", ".join(dict.fromkeys(part.part for part in result.untested))
    missing = f"; not promised for lack of jets: {without}" if without else ""
    return f"{whole}, for jets drawn as those of the calibration{missing}"


def _promised_risk(target: Target, conditions: Conditions) -> str:
    jets = "the jets that leave early" if conditions.leaving else "all jets"
    match target:
        case AccuracyDrop():
            return (
                f"at most {target.epsilon:.3g} of {jets} are right in the full model but wrong with early exits "
                "(jets that become right do not offset them)"
            )
        case NetAccuracyDrop():
            where = " among the jets that leave early" if conditions.leaving else ""
            return f"the accuracy is at most {target.epsilon:.3g} below that of the full model{where}"
        case Agreement():
            whose = jets if conditions.leaving else "the jets"
            return f"at most {target.epsilon:.3g} of {whose} get another class than from the full model"
        case SignalEfficiency():
            growth = (
                f"of accepted {target.background} none is added"
                if target.form == "reject"
                else f"accepted {target.background} grows by at most {target.background_growth:.3g} of it "
                f"({target.most_added:.3g} of what one of the two accepts)"
            )
            return (
                f"of the {target.signal} that the full model keeps at efficiency {target.efficiency:g} at most "
                f"{target.epsilon:.3g} is lost, and {growth}"
            )
    raise AssertionError(target)
