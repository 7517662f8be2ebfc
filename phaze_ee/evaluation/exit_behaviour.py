"""What the exits of a dynamic tagger are worth, one by one, and what no policy can beat."""

import numpy as np
from sklearn.metrics import roc_auc_score

from phaze_ee.dynamic_results import Bounds, ExitBehaviour
from phaze_ee.evaluation.calibration_error import expected_calibration_error
from phaze_ee.evaluation.operating_point import Answers, ExitIndex, confidence, fraction, operating_point


def exit_behaviour(answers: Answers, exit_: int, exit_index_N: ExitIndex) -> ExitBehaviour:
    """Judge one exit: alone, on the jets that leave there, and as a judge of its own answers.

    Args:
        answers: of all exits.
        exit_: which; the full model is the last.
        exit_index_N: where the policy lets each jet leave.
    """
    right_N = answers.right_EN[exit_]
    confidence_N = confidence(answers.logits_ENK[exit_])
    leaves_N = exit_index_N == exit_
    heads = () if exit_ == answers.last else (exit_,)
    return ExitBehaviour(
        all_leave=operating_point(answers, answers.everywhere(exit_), heads),
        expected_calibration_error=expected_calibration_error(confidence_N, right_N),
        leaving_jets=int(leaves_N.sum()),
        leaving_calibration_error=(
            expected_calibration_error(confidence_N[leaves_N], right_N[leaves_N]) if leaves_N.any() else None
        ),
        failure_auroc=None if right_N.all() or not right_N.any() else float(roc_auc_score(right_N, confidence_N)),
        change_of_mind=(
            None if exit_ == answers.last else fraction(answers.predicted_EN[exit_] != answers.predicted_EN[exit_ + 1])
        ),
    )


def bounds(answers: Answers) -> Bounds:
    """Return the two oracles, which pay for every head on the way, and the rate of overthinking (arXiv:1810.07052)."""
    right_EN, predicted_EN = answers.right_EN, answers.predicted_EN
    return Bounds(
        oracle=operating_point(answers, right_EN.argmax(axis=0), None),
        label_free_oracle=operating_point(answers, (predicted_EN == predicted_EN[-1]).argmax(axis=0), None),
        overthinking=fraction(right_EN[:-1].any(axis=0) & ~right_EN[-1]),
    )


def exits_per_class(answers: Answers, exit_index_N: ExitIndex) -> dict[str, list[int]]:
    """Return how many jets of each class leave at each exit."""
    counts_KE = np.zeros((len(answers.class_names), answers.last + 1), dtype=np.int64)
    np.add.at(counts_KE, (answers.label_N, exit_index_N), 1)
    return dict(zip(answers.class_names, counts_KE.tolist(), strict=True))
