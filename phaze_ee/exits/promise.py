"""What a calibration promises, in words, and what it costs, in figures."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from phaze_ee.errors import DataError, UsageError
from phaze_ee.exits.answers import FloatArray
from phaze_ee.exits.calibrate import Calibration, Method
from phaze_ee.exits.policy_file import Guarantee, MixFigures
from phaze_ee.exits.targets import AccuracyDrop, Agreement, Budget, SignalEfficiency, Target


def prior_weights(
    label_N: npt.NDArray[np.int64], class_names: tuple[str, ...], prior: Mapping[str, float]
) -> FloatArray:
    """Return weights, 1 on average, with which the classes have the shares that ``prior`` says.

    Raises:
        UsageError: the prior names a class that the tagger does not know.
        DataError: a class with a share has no jets, or the classes of the jets are unknown.
    """
    unknown = [name for name in prior if name not in class_names]
    if unknown:
        raise UsageError(f"class_prior names {', '.join(unknown)}; the classes are {', '.join(class_names)}")
    if (label_N < 0).any():
        raise DataError("class_prior needs labelled calibration files, and some of these jets have no class")
    count_K = np.bincount(label_N, minlength=len(class_names))
    share_K = np.array([prior.get(name, 0.0) for name in class_names])
    share_K = share_K / share_K.sum()
    absent = [name for name, share, count in zip(class_names, share_K, count_K, strict=True) if share and not count]
    if absent:
        raise DataError(f"class_prior gives {', '.join(absent)} a share, but the calibration files hold no such jets")
    weight_N: FloatArray = (share_K / np.maximum(count_K, 1) * len(label_N))[label_N]
    return weight_N


def weighted_mean(value_N: FloatArray, weight_N: FloatArray) -> tuple[float, float]:
    """Return Σ w v / Σ w and its standard error, from the scatter of the values around it."""
    total = weight_N.sum()
    mean = float((weight_N * value_N).sum() / total)
    return mean, float(np.sqrt((weight_N**2 * (value_N - mean) ** 2).sum()) / total)


def weighted_ratio(upper_N: FloatArray, lower_N: FloatArray, weight_N: FloatArray) -> tuple[float, float]:
    """Return the ratio of two weighted means and its standard error (from the scatter of upper − ratio · lower)."""
    lower = weighted_mean(lower_N, weight_N)[0]
    ratio = weighted_mean(upper_N, weight_N)[0] / lower
    return ratio, weighted_mean(upper_N - ratio * lower_N, weight_N)[1] / lower


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
