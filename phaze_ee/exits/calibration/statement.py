"""What a calibration promises, in words, and what it costs, in figures."""

from collections.abc import Mapping, Sequence

import numpy as np

from phaze_ee.exits.calibration.calibrate import Calibration, Method
from phaze_ee.exits.calibration.mix import prior_weights, weighted_mean, weighted_ratio
from phaze_ee.exits.calibration.targets import AccuracyDrop, Agreement, Budget, SignalEfficiency, Target
from phaze_ee.exits.policy_file import Guarantee, MixFigures


def guarantee(result: Calibration, method: Method, delta: float) -> Guarantee:
    """Return what holds, for jets that are drawn as those of the calibration."""
    promises = not isinstance(result.target, Budget)
    return Guarantee(
        method=method if promises else "none",
        delta=delta,
        holds=promises and result.reason is None,
        statement=_statement(result, method, delta),
        risks=result.risks,
    )


def _statement(result: Calibration, method: Method, delta: float) -> str:
    if result.reason is not None:
        return f"the policy is the full model: {result.reason}"
    if isinstance(result.target, Budget):
        return (
            f"the best accuracy found at a mean cost of {result.target.cost:g} of the full model; nothing is promised"
        )
    confidence = f"with confidence {1 - delta:.4g}" if method == "ltt" else "in expectation over calibration samples"
    return f"{_promise(result.target)}, {confidence}, for jets drawn as those of the calibration"


def _promise(target: Target) -> str:
    match target:
        case AccuracyDrop():
            return f"at most {target.epsilon:.3g} of the jets become wrong that the full model has right"
        case Agreement():
            return f"at most {target.epsilon:.3g} of the jets get another class than from the full model"
        case SignalEfficiency():
            growth = "none is added" if target.form == "reject" else f"at most {target.background_growth:.3g} is added"
            return (
                f"of the {target.signal} that the full model keeps at efficiency {target.efficiency:g} at most "
                f"{target.epsilon:.3g} is lost, and of accepted {target.background} {growth}"
            )
    raise AssertionError(target)


def figures(result: Calibration, exit_names: Sequence[str], prior: Mapping[str, float] | None) -> MixFigures:
    """Return mean cost and accuracy on the jets that tested the policy, for the mix of the files or a stated one.

    Raises:
        DataError: a class of the prior has none of these jets.
    """
    jets = result.testing
    weight_N = np.ones(len(jets)) if prior is None else prior_weights(jets.label_N, jets.class_names, prior)
    index_N = jets.exit_index(result.policy)
    spent_N, full_N = jets.spent(result.policy.exits or (), index_N), jets.full_cost_N
    share, share_error = weighted_ratio(spent_N, full_N, weight_N)
    full_macs = jets.macs * weighted_mean(full_N, weight_N)[0]
    labelled = bool((jets.label_N >= 0).all())
    correct_N = jets.at_exit(jets.correct_EN, index_N).astype(float)
    accuracy, accuracy_error = weighted_mean(correct_N, weight_N) if labelled else (None, None)
    return MixFigures(
        class_shares=None if prior is None else dict(prior),
        macs=share * full_macs,
        full_macs=full_macs,
        cost_share=share,
        cost_share_error=share_error,
        accuracy=accuracy,
        accuracy_error=accuracy_error,
        full_accuracy=weighted_mean(jets.correct_EN[-1].astype(float), weight_N)[0] if labelled else None,
        exit_shares={
            name: weighted_mean((index_N == index).astype(float), weight_N)[0] for index, name in enumerate(exit_names)
        },
    )
