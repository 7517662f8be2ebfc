"""The fits of gates."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from phaze_ee.exits.fits import logistic_regression


@pytest.mark.parametrize("separation", [0.0, 1.0, 30.0])
def test_logistic_regression_is_that_of_scikit_learn(separation: float) -> None:
    random = np.random.default_rng(3)
    positive_N = random.random(400) < 0.2
    feature_NF = random.normal(size=(400, 4)) + separation * positive_N[:, None] * np.array([1.0, 0.0, -0.5, 2.0])
    weights, bias = logistic_regression(feature_NF, positive_N)
    model = LogisticRegression(class_weight="balanced", max_iter=1000).fit(feature_NF, positive_N)
    np.testing.assert_allclose([*weights, bias], [*model.coef_[0], model.intercept_[0]], rtol=1e-6, atol=1e-8)
