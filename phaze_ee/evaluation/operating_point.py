"""What a choice of exits costs and how well the merged answers do, simulated from the answers of all exits."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int

from phaze_ee.evaluation.metrics import against_background, expected_calibration_error
from phaze_ee.exits.policies import ExitPolicy, temper
from phaze_ee.models.tagger import Tagger
from phaze_ee.results.policy import Bounds, ExitBehaviour, Fraction, OperatingPoint
from phaze_ee.stats import roc_area
from phaze_ee.types import Predictions

ExitIndex = Int[npt.NDArray[np.int64], " N"]


@final
@dataclass(frozen=True)
class Answers:
    """What every exit says about the judged jets, the full model last, after any temperatures, and what they cost.

    ``tagger`` is the form that the engine runs; of it only the count of multiply-accumulates is used.
    """

    logits_ENK: Float[npt.NDArray[np.float32], "E N K"]
    label_N: Int[npt.NDArray[np.int64], " N"]
    particle_count_N: Int[npt.NDArray[np.int64], " N"]
    class_names: tuple[str, ...]
    background: str | None
    tagger: Tagger

    @classmethod
    def of(cls, predictions: Predictions, policy: ExitPolicy, tagger: Tagger, background: str | None) -> "Answers":
        """Return the predictions as the policy sees them."""
        return cls(
            logits_ENK=temper(policy, torch.from_numpy(predictions.logits_ENK)).numpy(),
            label_N=predictions.label_N,
            particle_count_N=predictions.particle_count_N,
            class_names=predictions.class_names,
            background=background,
            tagger=tagger,
        )

    @property
    def last(self) -> int:
        """The index of the full model."""
        return len(self.logits_ENK) - 1

    @property
    def predicted_EN(self) -> Int[npt.NDArray[np.int64], "E N"]:
        predicted_EN: npt.NDArray[np.int64] = self.logits_ENK.argmax(axis=2)
        return predicted_EN

    @property
    def right_EN(self) -> Bool[npt.NDArray[np.bool_], "E N"]:
        right_EN: npt.NDArray[np.bool_] = self.predicted_EN == self.label_N
        return right_EN

    def everywhere(self, exit_: int) -> ExitIndex:
        """Return the choice that lets every jet leave at one exit."""
        return np.full(len(self.label_N), exit_)

    def mixture(self, exit_index_N: ExitIndex) -> Float[npt.NDArray[np.float64], "N K"]:
        """Return the logits of the exit where each jet leaves."""
        return self.logits_ENK[exit_index_N, np.arange(len(exit_index_N))].astype(np.float64)

    def macs(self, exit_index_N: ExitIndex, exits: Collection[int] | None) -> float:
        """Return the mean multiply-accumulates per jet; ``exits`` are the heads that are evaluated (None: all)."""
        macs_EN = self.tagger.exit_macs(torch.from_numpy(self.particle_count_N), exits=exits).numpy()
        return float(macs_EN[exit_index_N, np.arange(len(exit_index_N))].mean())


def operating_point(answers: Answers, exit_index_N: ExitIndex, exits: Collection[int] | None) -> OperatingPoint:
    """Judge a choice of exits; rejections and the error of the accuracy as in :mod:`phaze_ee.evaluation.metrics`.

    Args:
        answers: of all exits.
        exit_index_N: where each jet leaves; the full model is the last exit.
        exits: the exits whose heads are evaluated on the way, and cost; None: all.
    """
    logits_NK = answers.mixture(exit_index_N)
    accuracy = fraction(logits_NK.argmax(axis=1) == answers.label_N)
    mean_macs = answers.macs(exit_index_N, exits)
    left_E = np.bincount(exit_index_N, minlength=answers.last + 1)
    return OperatingPoint(
        mean_macs=mean_macs,
        macs_share=mean_macs / answers.macs(answers.everywhere(answers.last), ()),
        accuracy=accuracy.value,
        accuracy_error=accuracy.error,
        rejections=against_background(logits_NK, answers.label_N, answers.class_names, answers.background)[0],
        exit_fractions=(left_E / len(exit_index_N)).tolist(),
    )


def fraction(chosen_N: Bool[npt.NDArray[np.bool_], " N"]) -> Fraction:
    """Return how many of the jets are chosen, with the binomial standard error √(p(1-p)/N); N is not zero."""
    value = float(chosen_N.mean())
    return Fraction(value=value, error=float(np.sqrt(value * (1 - value) / len(chosen_N))), jets=len(chosen_N))


def confidence(logits_NK: Float[npt.NDArray[np.floating], "N K"]) -> Float[npt.NDArray[np.float64], " N"]:
    """Return the largest class probability."""
    double_NK = logits_NK.astype(np.float64)
    confidence_N: npt.NDArray[np.float64] = np.exp(double_NK.max(axis=1) - np.logaddexp.reduce(double_NK, axis=1))
    return confidence_N


def cost_accuracy_area(
    points: Sequence[OperatingPoint], cheapest: OperatingPoint, full: OperatingPoint
) -> float | None:
    """Return the area under accuracy against share of the full model's MACs, divided by the range of the shares.

    Trapezoids run from the cheapest exit, where every jet leaves at once, over the points to the full model, whose
    share is 1; points outside this range are left out. None where the cheapest exit costs no less than the full model.
    """
    first, last = cheapest.macs_share, full.macs_share
    if first >= last:
        return None
    between = sorted((point.macs_share, point.accuracy) for point in points if first < point.macs_share < last)
    shares, accuracies = zip((first, cheapest.accuracy), *between, (last, full.accuracy), strict=True)
    return float(np.trapezoid(accuracies, shares) / (last - first))


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
        failure_auroc=None if right_N.all() or not right_N.any() else roc_area(right_N, confidence_N),
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
