"""Fits the temperature of each exit, so that scores of jets that left at different exits mean the same."""

import math

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from phaze_ee.exits.calibration.jets import CalibrationJets

_RANGE = (math.log(0.05), math.log(20.0))


def fit_temperatures(jets: CalibrationJets) -> list[float]:
    """Return for each exit, and the full model, the temperature of least cross-entropy (arXiv:1706.04599)."""
    return [_fit(logits_NK, jets.label_N) for logits_NK in jets.logits_ENK.numpy()]


def _fit(logits_NK: npt.NDArray[np.float64], label_N: npt.NDArray[np.int64]) -> float:
    def cross_entropy(log_temperature: float) -> float:
        log_p_NK = log_softmax(logits_NK / math.exp(log_temperature), axis=1)
        return -float(log_p_NK[np.arange(len(label_N)), label_N].mean())

    return math.exp(minimize_scalar(cross_entropy, bounds=_RANGE, method="bounded").x)
