"""Answers of a tagger that does not exist, whose exits get better with depth."""

import numpy as np
import torch

from phaze_ee.exits.answers import CalibrationJets

CLASSES = ("label_QCD", "label_Hbb", "label_Tbqq")
SHARPNESS = (1.6, 3.0, 5.0)
COST = (0.1, 0.3, 1.0)


def synthetic_jets(count: int, seed: int = 1, sharpness: tuple[float, ...] = SHARPNESS) -> CalibrationJets:
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
    return CalibrationJets(
        torch.from_numpy(np.array(logits)), label_N, cost_EN / cost_EN[-1].mean(), np.ones(count), CLASSES
    )
