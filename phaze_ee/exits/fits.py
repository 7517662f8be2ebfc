"""Fits the learned gate: at each exit, whether going on would be worth its cost (early_exit, algorithm 7)."""

import math

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax

from phaze_ee.exits.answers import CalibrationJets
from phaze_ee.exits.scores import Gate, gate_features

# What the full model's mean cost weighs against one nat of cross-entropy; a gate for each, the best is chosen later.
_COST_WEIGHTS = (0.1, 0.3, 1.0, 3.0)


def fit_gates(jets: CalibrationJets, label_N: npt.NDArray[np.int64]) -> list[Gate]:
    """Return gates for several weights of the cost."""
    return [fit_gate(jets, label_N, cost_weight) for cost_weight in _COST_WEIGHTS]


def fit_gate(jets: CalibrationJets, label_N: npt.NDArray[np.int64], cost_weight: float) -> Gate:
    """Return the gate for one weight λ of the cost, in nats of cross-entropy per mean cost of the full model.

    The best exit of a jet is k* = argmin_k CE(f_k, y) + λ c_k. The gate of exit k learns, by logistic regression with
    balanced classes, whether k ≥ k*.
    """
    log_p_ENK = log_softmax(jets.logits_ENK.numpy(), axis=-1)
    entropy_EN = -log_p_ENK[:, np.arange(len(jets)), label_N]
    best_N = (entropy_EN + cost_weight * jets.cost_EN).argmin(axis=0)
    features = (gate_features(jets.logits_ENK[: index + 1]).numpy() for index in range(jets.exit_count))
    fits = [_fit_gate(feature_NF, index >= best_N) for index, feature_NF in enumerate(features)]
    return Gate(weight_EF=[weight for weight, _ in fits], bias_E=[bias for _, bias in fits])


def _fit_gate(feature_NF: npt.NDArray[np.float64], leaves_N: npt.NDArray[np.bool_]) -> tuple[list[float], float]:
    if leaves_N.all() or not leaves_N.any():
        # Nothing to learn: sure, but still in the order of the largest probability.
        return [1.0, 0.0, 0.0, 0.0], 0.0
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(class_weight="balanced", max_iter=1000).fit(feature_NF, leaves_N)
    return model.coef_[0].tolist(), float(model.intercept_[0])


_RANGE = (math.log(0.05), math.log(20.0))


def fit_temperatures(jets: CalibrationJets) -> list[float]:
    """Return for each exit, and the full model, the temperature of least cross-entropy (arXiv:1706.04599)."""
    return [_fit_temperature(logits_NK, jets.label_N) for logits_NK in jets.logits_ENK.numpy()]


def _fit_temperature(logits_NK: npt.NDArray[np.float64], label_N: npt.NDArray[np.int64]) -> float:
    from scipy.optimize import minimize_scalar

    def cross_entropy(log_temperature: float) -> float:
        log_p_NK = log_softmax(logits_NK / math.exp(log_temperature), axis=1)
        return -float(log_p_NK[np.arange(len(label_N)), label_N].mean())

    return math.exp(minimize_scalar(cross_entropy, bounds=_RANGE, method="bounded").x)
