"""Made-up answers of exits whose quality is known, for tests of what is computed from them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from phaze_ee.exits.answers import Answers
from phaze_ee.exits.costs import ExitCosts
from phaze_ee.models.tagger import Tagger
from tests.jets import small_tagger

CLASSES = ("label_QCD", "label_Hbb", "label_Other")


def saying(answer_EN: Sequence[Sequence[int]], label_N: Sequence[int], confidence: float = 0.9) -> Answers:
    """Return answers in which each exit names a class for each jet, always with the same confidence."""
    one_hot_ENK = np.eye(len(CLASSES), dtype=bool)[np.array(answer_EN)]
    logits_ENK = np.log(np.where(one_hot_ENK, confidence, (1 - confidence) / 2), dtype=np.float32)
    return answers(logits_ENK, np.array(label_N))


def random_answers(jets: int, seed: int = 0, quality: Sequence[float] = (1, 2, 3)) -> Answers:
    """Return answers for random jets of three classes; exits add ``quality`` to the logit of the true class."""
    random = np.random.default_rng(seed)
    label_N = random.integers(0, len(CLASSES), jets)
    noise_NK = random.normal(size=(jets, len(CLASSES)))
    logits_ENK = np.stack(
        [gain * np.eye(len(CLASSES))[label_N] + noise_NK + random.normal(size=noise_NK.shape) for gain in quality]
    )
    particle_count_N = random.integers(1, 40, jets)
    return Answers(
        logits_ENK=logits_ENK.astype(np.float32),
        label_N=label_N,
        particle_count_N=particle_count_N,
        class_names=CLASSES,
        costs=ExitCosts.of(tagger_with(len(quality) - 1), particle_count_N),
        observers={"jet_pt": random.normal(600, 50, jets), "jet_sdmass": random.gamma(3, 20, jets)},
    )


def answers(logits_ENK: npt.NDArray[np.float32], label_N: npt.NDArray[np.int64]) -> Answers:
    """Return answers of a small tagger with this number of exits, for jets of 1, 2, 3 … particles."""
    particle_count_N = np.arange(1, len(label_N) + 1)
    return Answers(
        logits_ENK=logits_ENK,
        label_N=label_N,
        particle_count_N=particle_count_N,
        class_names=CLASSES,
        costs=ExitCosts.of(tagger_with(len(logits_ENK) - 1), particle_count_N),
    )


def tagger_with(exit_count: int) -> Tagger:
    """Return the small tagger whose costs these answers have."""
    return small_tagger(tuple(range(exit_count)), num_classes=len(CLASSES)).packed()
