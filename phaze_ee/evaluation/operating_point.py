"""What a choice of exits costs and how accurate the merged answers are, from the answers of all exits."""

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from phaze_ee.evaluation.metrics import against_background, expected_calibration_error
from phaze_ee.evaluation.regression import evaluate_targets
from phaze_ee.exits.answers import Answers, ExitIndex
from phaze_ee.results.policy import Bounds, ExitBehaviour, Fraction, OperatingPoint
from phaze_ee.shapes import Bool, Float
from phaze_ee.stats import roc_area


def operating_point(
    answers: Answers, exit_index_N: ExitIndex, exits: Collection[int] | None, background: str | None
) -> OperatingPoint:
    """Evaluate the mixture of answers that a choice of exits gives.

    Rejections and the error of the accuracy are defined as in :mod:`phaze_ee.evaluation.metrics`.

    Args:
        answers: of all exits, with costs in MACs.
        exit_index_N: the exit where each jet leaves; the full model is the last.
        exits: the exits whose heads are evaluated, and cost; None: all.
        background: the class that rejections refer to; None: no rejections.
    """
    logits_NK = answers.mixture(exit_index_N)
    accuracy = fraction(logits_NK.argmax(axis=1) == answers.label_N)
    mean_macs = answers.costs.mean(exit_index_N, exits)
    left_E = np.bincount(exit_index_N, minlength=answers.exit_count + 1)
    return OperatingPoint(
        mean_macs=mean_macs,
        macs_share=mean_macs / answers.costs.mean_full,
        accuracy=accuracy.value,
        accuracy_error=accuracy.error,
        rejections=against_background(logits_NK, answers.label_N, answers.class_names, background)[0],
        exit_fractions=(left_E / len(exit_index_N)).tolist(),
    )


def fraction(chosen_N: Bool[np.ndarray, " N"]) -> Fraction:
    """Return the fraction p of N > 0 jets that are chosen, with the binomial standard error √(p(1-p)/N)."""
    value = float(chosen_N.mean())
    return Fraction(value=value, error=float(np.sqrt(value * (1 - value) / len(chosen_N))), jets=len(chosen_N))


def confidence(logits_NK: Float[np.ndarray, "N K"]) -> Float[np.ndarray, " N"]:
    """Return the largest class probability."""
    double_NK = logits_NK.astype(np.float64)
    confidence_N: npt.NDArray[np.float64] = np.exp(double_NK.max(axis=1) - np.logaddexp.reduce(double_NK, axis=1))
    return confidence_N


def cost_accuracy_area(
    points: Sequence[OperatingPoint], cheapest: OperatingPoint, full: OperatingPoint
) -> float | None:
    """Return the area under accuracy against share of the full model's MACs, divided by the range of the shares.

    Trapezoids run from the cheapest exit, where every jet leaves at once, over the points to the full model, whose
    share is 1; points outside this range are left out. None if the cheapest exit costs at least as much as the full
    model.
    """
    first, last = cheapest.macs_share, full.macs_share
    if first >= last:
        return None
    between = sorted((point.macs_share, point.accuracy) for point in points if first < point.macs_share < last)
    shares, accuracies = zip((first, cheapest.accuracy), *between, (last, full.accuracy), strict=True)
    return float(np.trapezoid(accuracies, shares) / (last - first))


def exit_behaviour(answers: Answers, exit_: int, exit_index_N: ExitIndex, background: str | None) -> ExitBehaviour:
    """Evaluate one exit: for all jets, for the jets that leave there, and how well it knows its own errors.

    Args:
        answers: of all exits, with costs in MACs.
        exit_: index of the exit; the full model is the last.
        exit_index_N: the exit where each jet leaves by the policy.
        background: the class that rejections refer to; None: no rejections.
    """
    correct_N, class_EN = answers.correct_EN[exit_], answers.class_EN
    confidence_N = confidence(answers.logits_ENK[exit_])
    leaves_N = exit_index_N == exit_
    is_full_model = exit_ == answers.exit_count
    return ExitBehaviour(
        all_leave=operating_point(answers, answers.all_at(exit_), () if is_full_model else (exit_,), background),
        expected_calibration_error=expected_calibration_error(confidence_N, correct_N),
        leaving_jets=int(leaves_N.sum()),
        leaving_calibration_error=(
            expected_calibration_error(confidence_N[leaves_N], correct_N[leaves_N]) if leaves_N.any() else None
        ),
        failure_auroc=(None if correct_N.all() or not correct_N.any() else roc_area(correct_N, confidence_N)),
        change_of_mind=None if is_full_model else fraction(class_EN[exit_] != class_EN[exit_ + 1]),
        leaving_targets=evaluate_targets(answers.predictions, exit_index_N, leaves_N),
    )


def bounds(answers: Answers, background: str | None) -> Bounds:
    """Return two oracles, which pay for every head before the exit, and the rate of overthinking (arXiv:1810.07052)."""
    correct_EN, class_EN = answers.correct_EN, answers.class_EN
    agrees_EN = class_EN == class_EN[-1]
    return Bounds(
        oracle=operating_point(answers, correct_EN.argmax(axis=0), None, background),
        label_free_oracle=operating_point(answers, agrees_EN.argmax(axis=0), None, background),
        overthinking=fraction(correct_EN[:-1].any(axis=0) & ~correct_EN[-1]),
    )


def exits_per_class(answers: Answers, exit_index_N: ExitIndex) -> dict[str, list[int]]:
    """Return the number of jets of each class that leave at each exit."""
    counts_KE = np.zeros((len(answers.class_names), answers.exit_count + 1), dtype=np.int64)
    np.add.at(counts_KE, (answers.label_N, exit_index_N), 1)
    return dict(zip(answers.class_names, counts_KE.tolist(), strict=True))
