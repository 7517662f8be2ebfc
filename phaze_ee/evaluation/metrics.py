"""How well one exit tells the classes apart."""

import hashlib
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from phaze_ee.data.schema import choose_background
from phaze_ee.errors import DataError
from phaze_ee.evaluation.regression import evaluate_targets
from phaze_ee.evaluation.rejection import Discrimination, discriminate, rejection_at, thinned, working_points
from phaze_ee.exits.answers import Answers, check_finite
from phaze_ee.paired import PairedCounts, pack_bits
from phaze_ee.results.base import Provenance
from phaze_ee.results.evaluation import ConfidenceBin, EvaluationResults, ExitEvaluation, Rejection
from phaze_ee.shapes import Bool, Float, Int
from phaze_ee.stats import roc_area

_CONFIDENCE_BINS = 15

Logits = Float[np.ndarray, "N K"]
Labels = Int[np.ndarray, " N"]


def evaluate_exits(answers: Answers, background: str | None, provenance: Provenance) -> EvaluationResults:
    """Evaluate every exit on labelled jets.

    Args:
        answers: of all exits.
        background: the class that rejections refer to, as for :func:`evaluate_exit`.
        provenance: of the model and the jets, for the results.

    Raises:
        DataError: some jets have no true class.
        RunError: a logit is not finite.
        UsageError: ``background`` is not a class.
    """
    background = choose_background(answers.class_names, background)
    correct_EN = answers.correct_EN
    exits = {
        name: evaluate_exit(answers.logits_ENK[index], answers.label_N, answers.class_names, background).model_copy(
            update={
                **cost_of_exit(answers, index),
                **against_full(correct_EN[index], correct_EN[-1]),
                "targets": evaluate_targets(answers.predictions, answers.all_at(index)),
            }
        )
        for index, name in enumerate(answers.exit_names)
    }
    return EvaluationResults(
        exits=exits,
        project=provenance.project,
        model=provenance.model,
        model_hash=provenance.model_hash,
        data_hash=provenance.data_hash,
        history_hash=provenance.history_hash,
        precision=provenance.precision,
        jets_hash=jets_hash(provenance.rows_hash, answers),
        classes=list(answers.class_names),
        jets=len(answers),
        jets_per_class=answers.jets_per_class,
        files=[str(path) for path in provenance.files],
        notes=[*provenance.notes, *_notes(answers, background)],
    )


def cost_of_exit(answers: Answers, exit_: int) -> dict[str, float]:
    """Return ``mean_macs`` and ``macs_share`` if all jets leave at one exit and its head alone is evaluated."""
    heads = () if exit_ == answers.exit_count else (exit_,)
    macs = answers.costs.mean(answers.all_at(exit_), heads)
    return {"mean_macs": macs, "macs_share": macs / answers.costs.mean_full}


def against_full(right_N: Bool[np.ndarray, " N"], full_N: Bool[np.ndarray, " N"]) -> dict[str, int | str]:
    """Return which jets are right, and how many here alone and in the full model alone, by the names of the fields."""
    counts = PairedCounts.of(right_N, full_N)
    return {"right_only_here": counts.gained, "right_only_in_full": counts.lost, "right_jets": pack_bits(right_N)}


def jets_hash(rows_hash: str | None, answers: Answers) -> str | None:
    """Return a hash of which jets these are: of what selects them from the files, and of their true classes in order.

    Args:
        rows_hash: of :func:`phaze_ee.data.selections.rows_hash`; None: there is no hash.
        answers: of these jets; the true classes are known.
    """
    if rows_hash is None:
        return None
    names = sorted(answers.class_names)
    place_K = np.array([names.index(name) for name in answers.class_names], dtype="<i4")
    return hashlib.sha256(f"{rows_hash} {names} ".encode() + place_K[answers.label_N].tobytes()).hexdigest()


def evaluate_exit(
    logits_NK: Logits, label_N: Labels, class_names: Sequence[str], background: str | None
) -> ExitEvaluation:
    """Evaluate one exit on a data set.

    A jet is assigned to the class of its largest logit, the first of equal ones. ``accuracy_error`` is the binomial
    standard error √(a(1-a)/N); ``loss`` is the mean cross-entropy in nats; ``roc_auc`` is that of
    :func:`one_vs_one_auc`; rejections are those of :func:`phaze_ee.evaluation.rejection.rejection_at`.

    Args:
        logits_NK: the exit's logits.
        label_N: the true classes, all known.
        class_names: the K classes.
        background: the class that rejections refer to. None: label_QCD if it is one of the classes, else there are no
            rejections.

    Raises:
        DataError: there are no jets, or some have no true class.
        RunError: a logit is not finite.
        UsageError: ``background`` is not a class.
    """
    _check(logits_NK, label_N)
    double_NK = logits_NK.astype(np.float64)
    log_probability_NK = double_NK - np.logaddexp.reduce(double_NK, axis=1, keepdims=True)
    probability_NK = np.exp(log_probability_NK)
    predicted_N = logits_NK.argmax(axis=1)
    correct_N = predicted_N == label_N
    confidence_N = probability_NK.max(axis=1)
    accuracy = float(correct_N.mean())
    rejections, curves = against_background(double_NK, label_N, class_names, background)
    return ExitEvaluation(
        accuracy=accuracy,
        accuracy_error=float(np.sqrt(accuracy * (1 - accuracy) / len(label_N))),
        roc_auc=one_vs_one_auc(probability_NK, label_N),
        loss=float(-np.take_along_axis(log_probability_NK, label_N[:, None], axis=1).mean()),
        expected_calibration_error=expected_calibration_error(confidence_N, correct_N),
        confidence_bins=confidence_bins(confidence_N, correct_N),
        confusion_matrix=_confusion_matrix(label_N, predicted_N, len(class_names)).tolist(),
        rejections=rejections,
        roc_curves=[thinned(curve) for curve in curves],
    )


def expected_calibration_error(confidence_N: Float[np.ndarray, " N"], correct_N: Bool[np.ndarray, " N"]) -> float:
    """Return the expected calibration error (Guo et al. 2017, arXiv:1706.04599, equation 5).

    Jets are sorted by confidence, the probability of the assigned class, into 15 bins of equal width, open below and
    closed above: (0, 1/15], …, (14/15, 1]. The error is the mean over the bins, weighted by the number of jets, of
    |fraction of correct jets - mean confidence|. Empty bins add nothing.
    """
    gap_per_bin = np.bincount(_bin(confidence_N), weights=correct_N - confidence_N)
    return float(np.abs(gap_per_bin).sum() / len(confidence_N))


def confidence_bins(confidence_N: Float[np.ndarray, " N"], correct_N: Bool[np.ndarray, " N"]) -> list[ConfidenceBin]:
    """Return the bins of :func:`expected_calibration_error` that have jets, by rising confidence."""
    bin_N = _bin(confidence_N)
    counts, *sums = (np.bincount(bin_N, weights=weight_N) for weight_N in (None, confidence_N, correct_N))
    return [
        ConfidenceBin(jets=count, confidence=confidence / count, accuracy=correct / count)
        for count, confidence, correct in zip(counts.tolist(), *(one.tolist() for one in sums), strict=True)
        if count
    ]


def _bin(confidence_N: Float[np.ndarray, " N"]) -> Labels:
    bin_N: Labels = np.clip(np.ceil(confidence_N * _CONFIDENCE_BINS).astype(np.int64) - 1, 0, _CONFIDENCE_BINS - 1)
    return bin_N


def one_vs_one_auc(probability_NK: Float[np.ndarray, "N K"], label_N: Labels) -> float | None:
    """Return the mean area under the ROC curve over all pairs of classes that have jets; None if there is no pair.

    For a pair (a, b) it is the mean of the area for p_a with a as signal, and for p_b with b as signal, without class
    weights (Hand and Till, Machine Learning 45 (2001) 171; scikit-learn's ``multi_class="ovo", average="macro"``).
    With two classes it is the ordinary area.
    """
    areas = []
    for one, other in combinations(np.unique(label_N).tolist(), 2):
        pair_N = (label_N == one) | (label_N == other)
        areas += [roc_area(label_N[pair_N] == positive, probability_NK[pair_N, positive]) for positive in (one, other)]
    return float(np.mean(areas)) if areas else None


def against_background(
    logits_NK: Logits, label_N: Labels, class_names: Sequence[str], background: str | None
) -> tuple[list[Rejection], list[Discrimination]]:
    """Return the background rejection of each signal class, and the ROC curves of those that have jets.

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


def _check(logits_NK: Logits, label_N: Labels) -> None:
    if len(label_N) == 0:
        raise DataError("there are no jets to evaluate")
    unknown = int((label_N < 0).sum())
    if unknown:
        raise DataError(f"{unknown} of {len(label_N)} jets have no true class; evaluation needs labelled files")
    check_finite(logits_NK)


def _notes(answers: Answers, background: str | None) -> list[str]:
    notes = []
    absent = [name for name, count in answers.jets_per_class.items() if count == 0]
    if absent:
        notes.append(f"no jets of {', '.join(absent)} in these files: the AUC is averaged over the other classes")
    if background is None:
        notes.append("no rejections: set c.background to the background class")
    return notes


def _confusion_matrix(label_N: Labels, predicted_N: Labels, class_count: int) -> Int[np.ndarray, "K K"]:
    """Return the number of jets by true class (rows) and predicted class (columns)."""
    cells = np.bincount(label_N * class_count + predicted_N, minlength=class_count**2)
    return cells.reshape(class_count, class_count)
