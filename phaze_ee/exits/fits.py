"""Fits the learned gate: at each exit, whether going on would be worth its cost (early_exit, algorithm 7)."""

import math

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_softmax

from phaze_ee.exits.answers import CalibrationJets
from phaze_ee.exits.scores import Gate, gate_features

# What the full model's mean cost weighs against one nat of cross-entropy; a gate for each, the best is chosen later.
_COST_WEIGHTS = (0.1, 0.3, 1.0, 3.0)
_RANGE = (math.log(0.05), math.log(20.0))  # of the logarithm of a temperature


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
    return logistic_regression(feature_NF, leaves_N)


def logistic_regression(
    feature_NF: npt.NDArray[np.float64], positive_N: npt.NDArray[np.bool_]
) -> tuple[list[float], float]:
    """Return the weights w and the bias b of a logistic regression with balanced classes.

    They minimise the mean over the jets of a_c ln(1 + exp(∓(w·x + b))) + |w|²/2N, where a_c = N/2N_c for a class with
    N_c of the N jets: scikit-learn's ``LogisticRegression(class_weight="balanced")``, which takes longer to import than
    to fit.
    """
    from scipy.optimize import minimize

    jets, sign_N = len(positive_N), np.where(positive_N, 1.0, -1.0)
    balance_N = np.where(positive_N, 0.5 / positive_N.mean(), 0.5 / (~positive_N).mean())

    def loss_and_gradient(parameters: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        weight_F, bias = parameters[:-1], parameters[-1]
        margin_N = sign_N * (feature_NF @ weight_F + bias)
        loss = (balance_N @ np.logaddexp(0, -margin_N) + weight_F @ weight_F / 2) / jets
        slope_N = -balance_N * sign_N * expit(-margin_N)
        return loss, np.append(slope_N @ feature_NF + weight_F, slope_N.sum()) / jets

    start = np.zeros(feature_NF.shape[1] + 1)
    options = {"maxiter": 1000, "maxls": 50, "gtol": 1e-4, "ftol": 64 * np.finfo(float).eps}  # scikit-learn's
    found = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options=options).x
    return found[:-1].tolist(), float(found[-1])


def fit_temperatures(jets: CalibrationJets) -> list[float]:
    """Return for each exit, and the full model, the temperature of least cross-entropy (arXiv:1706.04599)."""
    return [_fit_temperature(logits_NK, jets.label_N) for logits_NK in jets.logits_ENK.numpy()]


def _fit_temperature(logits_NK: npt.NDArray[np.float64], label_N: npt.NDArray[np.int64]) -> float:
    from scipy.optimize import minimize_scalar

    def cross_entropy(log_temperature: float) -> float:
        log_p_NK = log_softmax(logits_NK / math.exp(log_temperature), axis=1)
        return -float(log_p_NK[np.arange(len(label_N)), label_N].mean())

    return math.exp(minimize_scalar(cross_entropy, bounds=_RANGE, method="bounded").x)
