"""Answers of a tagger that does not exist, whose exits get better with depth."""

import numpy as np
import numpy.typing as npt

from phaze_ee.exits.answers import Answers
from phaze_ee.exits.costs import ExitCosts
from phaze_ee.models.links import IndependentLink

CLASSES = ("label_QCD", "label_Hbb", "label_Tbqq")
SHARPNESS = (1.6, 3.0, 5.0)
COST = (0.1, 0.3, 1.0)


def synthetic_answers(count: int, seed: int = 1, sharpness: tuple[float, ...] = SHARPNESS) -> Answers:
    """Jets of three classes; every exit adds to the noise that the exits before had, and to the signal."""
    rng = np.random.default_rng(seed)
    label_N = rng.integers(0, len(CLASSES), count)
    noise_NK = rng.normal(size=(count, len(CLASSES)))
    logits = []
    for scale in sharpness:
        noise_NK = noise_NK + 0.6 * rng.normal(size=noise_NK.shape)
        logits.append(noise_NK + scale * np.eye(len(CLASSES))[label_N])
    size_N = rng.uniform(0.5, 1.5, count)
    cost_EN = np.array(COST[-len(sharpness) :])[:, None] * size_N
    return Answers(np.array(logits), label_N, np.ones(count, dtype=int), CLASSES, costs_of(cost_EN))


def costs_of(trunk_EN: npt.NDArray[np.float64], head: float = 0.0) -> ExitCosts:
    """Return the costs of independent exits with these costs of the network, each head with the same cost."""
    exits, count = len(trunk_EN) - 1, trunk_EN.shape[1]
    costs = ExitCosts(trunk_EN, np.full((exits, count), head), IndependentLink(exits, len(CLASSES)), np.ones(count))
    return costs.relative_to_full_model(costs.weight_N)
