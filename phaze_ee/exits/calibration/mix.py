"""Mean values for another mix of classes than that of the files, by weighting classes."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from phaze_ee.errors import DataError, UsageError
from phaze_ee.exits.calibration.jets import FloatArray


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
