"""The fits of gates and temperatures."""

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

from phaze_ee.exits.fits import fit_gate, fit_temperatures, logistic_regression, temperatures_at_limit
from phaze_ee.exits.scores import gate_features
from tests.exits.synthetic import synthetic_answers


@pytest.mark.parametrize("separation", [0.0, 1.0, 30.0])
def test_logistic_regression_is_that_of_scikit_learn(separation: float) -> None:
    random = np.random.default_rng(3)
    positive_N = random.random(400) < 0.2
    feature_NF = random.normal(size=(400, 4)) + separation * positive_N[:, None] * np.array([1.0, 0.0, -0.5, 2.0])
    weights, bias = logistic_regression(feature_NF, positive_N)
    model = LogisticRegression(class_weight="balanced", max_iter=1000).fit(feature_NF, positive_N)
    np.testing.assert_allclose([*weights, bias], [*model.coef_[0], model.intercept_[0]], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("scale", "sharpness", "said"),
    [
        (1.0, 5.0, None),
        (10.0, 0.0, "limit of 20: on the jets of the fit, its probabilities say next to nothing about the class"),
        (0.02, 20.0, "limit of 0.05: on the jets of the fit, hardly any of its answers is wrong"),
    ],
)
def test_a_temperature_at_its_limit_is_named_with_its_exit(scale: float, sharpness: float, said: str | None) -> None:
    answers = synthetic_answers(2000, sharpness=(sharpness, 5.0))
    answers.logits_ENK[0] *= scale
    temperatures = fit_temperatures(answers)
    notes = temperatures_at_limit(temperatures, answers.exit_names)
    assert notes == ([] if said is None else [f"the temperature of {answers.exit_names[0]} is at its {said}"])
    assert temperatures_at_limit(None, answers.exit_names) == []


def test_a_gate_learns_whether_the_best_exit_has_been_reached() -> None:
    answers, cost_weight = synthetic_answers(400), 0.3
    gate = fit_gate(answers, answers.label_N, cost_weight)
    best = []
    for jet, label in enumerate(answers.label_N):
        losses = [logsumexp(own) - own[label] for own in answers.logits_ENK[:, jet].astype(float)]
        best.append(int(np.argmin(losses + cost_weight * answers.costs.all_heads_EN[:, jet])))
    assert {*best} == {0, 1, 2}
    for index in range(2):
        features = gate_features(answers.tensor_ENK[: index + 1]).double().numpy()
        weights, bias = logistic_regression(features, np.array(best) <= index)
        assert gate.weight_EF[index] == pytest.approx(weights)
        assert gate.bias_E[index] == pytest.approx(bias)


def test_where_every_jet_should_leave_the_gate_keeps_the_order_of_the_confidence() -> None:
    gate = fit_gate(synthetic_answers(50), synthetic_answers(50).label_N, 1e6)
    assert gate.weight_EF == [[1.0, 0.0, 0.0, 0.0]] * 2
    assert gate.bias_E == [0.0, 0.0]
