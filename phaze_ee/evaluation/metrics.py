"""How well one exit tells the classes apart."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Int

from phaze_ee.data.schema import choose_background
from phaze_ee.errors import DataError, RunError
from phaze_ee.evaluation.rejection import Discrimination, discriminate, rejection_at, thinned, working_points
from phaze_ee.results.evaluation import ExitEvaluation, Rejection
from phaze_ee.stats import roc_area

BIN_COUNT = 15


def expected_calibration_error(
    confidence_N: Float[npt.NDArray[np.float64], " N"], correct_N: Bool[npt.NDArray[np.bool_], " N"]
) -> float:
    """Return the expected calibration error of Guo et al. 2017 (arXiv:1706.04599, equation 5).

    Jets are sorted by their confidence, the probability of the class they are assigned to, into 15 bins of equal width,
    open below and closed above: (0, 1/15], …, (14/15, 1]. The error is the mean over the bins, weighted with their
    numbers of jets, of |fraction of jets assigned correctly - mean confidence|. Empty bins add nothing.
    """
    bin_N = np.clip(np.ceil(confidence_N * BIN_COUNT).astype(np.int64) - 1, 0, BIN_COUNT - 1)
    gap_per_bin = np.bincount(bin_N, weights=correct_N - confidence_N, minlength=BIN_COUNT)
    return float(np.abs(gap_per_bin).sum() / len(confidence_N))


Logits = Float[npt.NDArray[np.floating], "N K"]
Labels = Int[npt.NDArray[np.int64], " N"]


def evaluate_exit(
    logits_NK: Logits, label_N: Labels, class_names: Sequence[str], background: str | None
) -> ExitEvaluation:
    """Judge one exit on a data set.

    A jet is assigned to the class of its largest logit, the first of them where several are equal. ``accuracy_error``
    is the binomial standard error √(a(1-a)/N); ``loss`` is the mean cross-entropy in nats; ``roc_auc`` as in
    :func:`one_vs_one_auc`; rejections as in :func:`phaze_ee.evaluation.rejection.rejection_at`.

    Args:
        logits_NK: the exit's logits.
        label_N: the true classes, all known.
        class_names: the K classes.
        background: the class that rejections refer to; None: label_QCD where it is one of the classes, else there are
            no rejections.

    Raises:
        DataError: there are no jets, or some without a true class.
        RunError: a logit is not finite.
        UsageError: ``background`` is not a class.
    """
    _check(logits_NK, label_N)
    double_NK = logits_NK.astype(np.float64)
    log_probability_NK = double_NK - np.logaddexp.reduce(double_NK, axis=1, keepdims=True)
    probability_NK = np.exp(log_probability_NK)
    predicted_N = logits_NK.argmax(axis=1)
    correct_N = predicted_N == label_N
    accuracy = float(correct_N.mean())
    rejections, curves = against_background(double_NK, label_N, class_names, background)
    return ExitEvaluation(
        accuracy=accuracy,
        accuracy_error=float(np.sqrt(accuracy * (1 - accuracy) / len(label_N))),
        roc_auc=one_vs_one_auc(probability_NK, label_N),
        loss=float(-np.take_along_axis(log_probability_NK, label_N[:, None], axis=1).mean()),
        expected_calibration_error=expected_calibration_error(probability_NK.max(axis=1), correct_N),
        confusion_matrix=_confusion_matrix(label_N, predicted_N, len(class_names)).tolist(),
        rejections=rejections,
        roc_curves=[thinned(curve) for curve in curves],
    )


def one_vs_one_auc(probability_NK: Float[npt.NDArray[np.float64], "N K"], label_N: Labels) -> float | None:
    """Return the mean area under the ROC curve over all pairs of classes that have jets; None without such a pair.

    For a pair (a, b) it is the mean of the areas for p_a on jets of a against b and for p_b on b against a, without
    class weights (Hand and Till 2001; scikit-learn's ``multi_class="ovo", average="macro"``). With two classes it is
    the ordinary area.
    """
    areas = []
    for one, other in combinations(np.unique(label_N).tolist(), 2):
        pair_N = (label_N == one) | (label_N == other)
        areas += [roc_area(label_N[pair_N] == positive, probability_NK[pair_N, positive]) for positive in (one, other)]
    return float(np.mean(areas)) if areas else None


def jets_per_class(label_N: Labels, class_names: Sequence[str]) -> dict[str, int]:
    """Return the number of jets of each class."""
    counts = np.bincount(label_N, minlength=len(class_names))
    return {name: int(count) for name, count in zip(class_names, counts, strict=True)}


def _confusion_matrix(label_N: Labels, predicted_N: Labels, class_count: int) -> Int[npt.NDArray[np.int64], "K K"]:
    """Return the numbers of jets by true class (rows) and predicted class (columns)."""
    cells = np.bincount(label_N * class_count + predicted_N, minlength=class_count**2)
    return cells.reshape(class_count, class_count)


def _check(logits_NK: Logits, label_N: Labels) -> None:
    if len(label_N) == 0:
        raise DataError("there are no jets to evaluate")
    unknown = int((label_N < 0).sum())
    if unknown:
        raise DataError(f"{unknown} of {len(label_N)} jets have no true class; evaluation needs labelled files")
    check_finite(logits_NK)


def check_finite(logits_NK: Logits) -> None:
    """Refuse answers that are not numbers.

    Raises:
        RunError: a logit is NaN or infinite.
    """
    broken = int((~np.isfinite(logits_NK)).any(axis=1).sum())
    if broken:
        raise RunError(f"the network's answer is not finite for {broken} of {len(logits_NK)} jets; train it again")


def against_background(
    logits_NK: Float[npt.NDArray[np.float64], "N K"],
    label_N: Labels,
    class_names: Sequence[str],
    background: str | None,
) -> tuple[list[Rejection], list[Discrimination]]:
    """Return the rejection of the background for each other class, and the curves of those that have jets.

    The background is chosen as in :func:`evaluate_exit`; without one both lists are empty.
    """
    rejections: list[Rejection] = []
    curves: list[Discrimination] = []
    background = choose_background(class_names, background)
    if background is None:
        return rejections, curves
    for signal, efficiency in working_points(class_names, background).items():
        curve = discriminate(logits_NK, label_N, class_names, signal, background)
        if curve is None:
            rejections.append(
                Rejection(signal=signal, background=background, signal_efficiency=efficiency, value=None, error=None)
            )
        else:
            rejections.append(rejection_at(curve, efficiency))
            curves.append(curve)
    return rejections, curves
