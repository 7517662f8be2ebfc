"""Fits of parameters: the temperature of each exit, and the learned gate."""

import math
from collections.abc import Sequence

import numpy as np

from phaze_ee.exits.answers import Answers
from phaze_ee.exits.scores import Gate, gate_features
from phaze_ee.shapes import Bool, Float, Int

# Weights λ of the full model's mean cost, in nats of cross-entropy. There is a gate for each; calibration picks one.
_COST_WEIGHTS = (0.1, 0.3, 1.0, 3.0)
_TEMPERATURES = (0.05, 20.0)
_AT_LIMIT = 0.01  # a bounded minimiser stays this far from its bounds, in ln T


def fit_temperatures(answers: Answers) -> list[float]:
    """Return the temperature of least cross-entropy for each exit and the full model (Guo et al., arXiv:1706.04599).

    Temperatures are between 0.05 and 20. All true classes must be known.
    """
    return [_fit_temperature(logits_NK, answers.label_N) for logits_NK in answers.double().logits_ENK]


def temperatures_at_limit(temperatures: Sequence[float] | None, names: Sequence[str]) -> list[str]:
    """Return, in words, which of the fitted temperatures are a limit of their range, and what this means.

    Args:
        temperatures: of each exit and the full model (:func:`fit_temperatures`); None: none were fitted.
        names: theirs.
    """
    least, most = _TEMPERATURES
    meaning = {
        least: "hardly any of its answers is wrong",
        most: "its probabilities say next to nothing about the class",
    }
    return [
        f"the temperature of {name} is at its limit of {limit:g}: on the jets of the fit, {meaning[limit]}"
        for name, temperature in zip(names, temperatures or [1.0] * len(names), strict=True)
        for limit in _TEMPERATURES
        if abs(math.log(temperature / limit)) < _AT_LIMIT
    ]


def fit_gates(answers: Answers, label_N: Int[np.ndarray, " N"]) -> list[Gate]:
    """Return one gate for each of several weights of the cost."""
    return [fit_gate(answers, label_N, cost_weight) for cost_weight in _COST_WEIGHTS]


def fit_gate(answers: Answers, label_N: Int[np.ndarray, " N"], cost_weight: float) -> Gate:
    """Return the gate for one weight λ of the cost.

    The best exit of a jet is k* = argmin_k CE(f_k, y) + λ c_k. The gate of exit k learns by logistic regression with
    balanced classes whether k ≥ k*.

    Args:
        answers: with costs c as shares of the full model's mean.
        label_N: the classes y to treat as true.
        cost_weight: λ, in nats.
    """
    from scipy.special import log_softmax

    log_p_ENK = log_softmax(answers.double().logits_ENK, axis=-1)
    entropy_EN = -log_p_ENK[:, np.arange(len(answers)), label_N]
    best_N = (entropy_EN + cost_weight * answers.costs.all_heads_EN).argmin(axis=0)
    features = (gate_features(answers.tensor_ENK[: index + 1]).double().numpy() for index in range(answers.exit_count))
    fits = [_fit_gate(feature_NF, index >= best_N) for index, feature_NF in enumerate(features)]
    return Gate(weight_EF=[weight for weight, _ in fits], bias_E=[bias for _, bias in fits])


def logistic_regression(
    feature_NF: Float[np.ndarray, "N F"], positive_N: Bool[np.ndarray, " N"]
) -> tuple[list[float], float]:
    """Return the weights w and the bias b of a logistic regression with balanced classes.

    They minimise the mean over the jets of a_c ln(1 + exp(∓(w·x + b))) + |w|²/2N, where a_c = N/2N_c for a class with
    N_c of the N jets. This is scikit-learn's ``LogisticRegression(class_weight="balanced")``, which takes longer to
    import than to fit.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    jets, sign_N = len(positive_N), np.where(positive_N, 1.0, -1.0)
    balance_N = np.where(positive_N, 0.5 / positive_N.mean(), 0.5 / (~positive_N).mean())

    def loss_and_gradient(parameters: Float[np.ndarray, " F+1"]) -> tuple[float, Float[np.ndarray, " F+1"]]:
        weight_F, bias = parameters[:-1], parameters[-1]
        margin_N = sign_N * (feature_NF @ weight_F + bias)
        loss = (balance_N @ np.logaddexp(0, -margin_N) + weight_F @ weight_F / 2) / jets
        slope_N = -balance_N * sign_N * expit(-margin_N)
        return loss, np.append(slope_N @ feature_NF + weight_F, slope_N.sum()) / jets

    start = np.zeros(feature_NF.shape[1] + 1)
    options = {"maxiter": 1000, "maxls": 50, "gtol": 1e-4, "ftol": 64 * np.finfo(float).eps}  # scikit-learn's
    found = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options=options).x
    return found[:-1].tolist(), float(found[-1])


def _fit_gate(feature_NF: Float[np.ndarray, "N F"], leaves_N: Bool[np.ndarray, " N"]) -> tuple[list[float], float]:
    if leaves_N.all() or not leaves_N.any():
        # There is nothing to learn. The order of the largest probability is kept.
        return [1.0, 0.0, 0.0, 0.0], 0.0
    return logistic_regression(feature_NF, leaves_N)


def _fit_temperature(logits_NK: Float[np.ndarray, "N K"], label_N: Int[np.ndarray, " N"]) -> float:
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    def cross_entropy(log_temperature: float) -> float:
        log_p_NK = log_softmax(logits_NK / math.exp(log_temperature), axis=1)
        return -float(log_p_NK[np.arange(len(label_N)), label_N].mean())

    return math.exp(
        minimize_scalar(cross_entropy, bounds=[math.log(limit) for limit in _TEMPERATURES], method="bounded").x
    )
