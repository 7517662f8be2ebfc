"""Background that the first exit rejects, and that cuts on observables reject at the same loss of signal."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier

from phaze_ee.exits.answers import Answers
from phaze_ee.paired import pack_bits

BACKGROUND = "label_QCD"
LOSS = 0.05
Array = npt.NDArray[np.float64]
Accepts = Callable[[Array], npt.NDArray[np.bool_]]


def first_exit_against_cuts(
    answers: Mapping[str, Answers], columns: Mapping[str, Mapping[str, Array]], seed: int
) -> dict[str, Any]:
    """Return for each signal which background jets of the test are rejected by the first exit, a cut, and trees.

    Each rule is a cut that loses 5 % of the signal jets of the calibration. The exit's score is
    ln(p_signal / p_background) at the first exit. The plain cut is on the one observable that rejects most background
    of the calibration; it is from below, from above, or a window with half of the loss on each side. The trees learn
    all observables on the training jets.

    Args:
        answers: for the samples train, calibration and test.
        columns: the observables of the same jets.
        seed: of the trees.
    """
    signals = [name for name in answers["test"].class_names if name != BACKGROUND]
    return {signal: _compared(signal, answers, columns, seed) for signal in signals}


def _compared(
    signal: str, answers: Mapping[str, Answers], columns: Mapping[str, Mapping[str, Array]], seed: int
) -> dict[str, Any]:
    calibration, test = answers["calibration"], answers["test"]
    own, other = calibration.of_class(signal), calibration.of_class(BACKGROUND)
    judged, background = test.of_class(signal), test.of_class(BACKGROUND)
    trees = _trees(signal, answers["train"], columns["train"], seed)
    scores = {"exit": (_log_odds(calibration, signal), _log_odds(test, signal)), "trees": _both(trees, columns)}
    rules = {name: (_above(known_M[own]), value_N) for name, (known_M, value_N) in scores.items()}
    cuts = [
        (float((~accepts(known_M[other])).mean()), name, how, accepts)
        for name, known_M in columns["calibration"].items()
        for how, accepts in _cuts(known_M[own]).items()
    ]
    _, name, how, accepts = max(cuts, key=lambda cut: cut[0])
    rules["cut"] = (accepts, columns["test"][name])
    return {
        "cut": f"{name}, {how}",
        "background_jets": int(background.sum()),
        "signal_jets": int(judged.sum()),
        "signal_lost": {rule: float((~keeps(value_N[judged])).mean()) for rule, (keeps, value_N) in rules.items()},
        "rejected": {rule: float((~keeps(value_N[background])).mean()) for rule, (keeps, value_N) in rules.items()},
        "rejected_jets": {rule: pack_bits(~keeps(value_N[background])) for rule, (keeps, value_N) in rules.items()},
    }


def _cuts(signal_N: Array) -> dict[str, Accepts]:
    low, high = np.quantile(signal_N, [LOSS / 2, 1 - LOSS / 2])
    below = float(np.quantile(signal_N, 1 - LOSS))
    return {
        "from below": _above(signal_N),
        "from above": lambda value_N: value_N <= below,
        "window": lambda value_N: (value_N >= low) & (value_N <= high),
    }


def _above(signal_N: Array) -> Accepts:
    cut = float(np.quantile(signal_N, LOSS))
    return lambda value_N: value_N >= cut


def _log_odds(answers: Answers, signal: str) -> Array:
    first_NK = answers.logits_ENK[0].astype(np.float64)
    names = answers.class_names
    log_odds_N: Array = first_NK[:, names.index(signal)] - first_NK[:, names.index(BACKGROUND)]
    return log_odds_N


def _trees(signal: str, train: Answers, columns: Mapping[str, Array], seed: int) -> HistGradientBoostingClassifier:
    chosen = train.of_class(signal) | train.of_class(BACKGROUND)
    column_NO = np.stack(list(columns.values()), axis=1)
    trees = HistGradientBoostingClassifier(max_iter=100, learning_rate=0.06, max_leaf_nodes=12, random_state=seed)
    return trees.fit(column_NO[chosen], train.of_class(signal)[chosen])


def _both(trees: HistGradientBoostingClassifier, columns: Mapping[str, Mapping[str, Array]]) -> tuple[Array, Array]:
    known_M, value_N = (
        trees.decision_function(np.stack(list(columns[name].values()), axis=1)) for name in ("calibration", "test")
    )
    return known_M, value_N
