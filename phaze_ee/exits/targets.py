"""Targets of a calibration: what a policy has to keep, as risks that stay below a limit."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Annotated, Literal, final

import numpy as np
import numpy.typing as npt
from pydantic import Field

from phaze_ee.errors import DataError, UsageError
from phaze_ee.exits.answers import Answers, ExitIndex, at_exit
from phaze_ee.exits.betting import NetLosses
from phaze_ee.exits.fits import fit_gates
from phaze_ee.exits.scores import ExitScore, Window, log_odds, make_score
from phaze_ee.results.base import Record
from phaze_ee.shapes import Bool, Float, Int

Share = Annotated[float, Field(gt=0, lt=1)]
# Values of Window.accept to try in the two-sided form.
_ACCEPT = (0.25, 0.5, 1.0, 2.0, 4.0)


@final
@dataclass(frozen=True)
class Risk:
    """The probability that a jet is lost, given that it counts. It must stay below a limit.

    Attributes:
        name: for tables.
        epsilon: the limit ε.
        counts_N: the jets that count. A jet that is lost counts as well.
        lost_EN: whether a jet is lost if it leaves at an exit.
        gained_EN: whether a jet offsets one that is lost, if it leaves at an exit. None: no jet does.
        leaving_only: whether jets that reach the full model do not count.
        expected_EN: the loss that is expected of a jet if it leaves at an exit, lost less gained; None: it is counted.
    """

    name: str
    epsilon: float
    counts_N: Bool[np.ndarray, " N"]
    lost_EN: Bool[np.ndarray, "E N"]
    gained_EN: Bool[np.ndarray, "E N"] | None = None
    leaving_only: bool = False
    expected_EN: Float[np.ndarray, "E N"] | None = None

    def within(self, part: str, part_N: Bool[np.ndarray, " N"]) -> "Risk":
        """Return the same risk for a part of the jets."""
        return replace(
            self,
            name=f"{self.name}, {part}",
            counts_N=self.counts_N & part_N,
            lost_EN=self.lost_EN & part_N,
            gained_EN=None if self.gained_EN is None else self.gained_EN & part_N,
            expected_EN=None if self.expected_EN is None else self.expected_EN * part_N,
        )

    def of_leaving(self) -> "Risk":
        """Return the same risk among the jets that leave early. The full model must lose and gain no jet."""
        return replace(self, name=f"{self.name} of those that leave", leaving_only=True)

    def observed(self, exit_index_N: ExitIndex) -> tuple[int, int]:
        """Return the number of jets that are lost, and of jets that count, if the jets leave at these exits.

        Gained jets are subtracted from the lost ones.
        """
        lost_N = at_exit(self.lost_EN, exit_index_N)
        gained = 0 if self.gained_EN is None else int(at_exit(self.gained_EN, exit_index_N).sum())
        counts_N = lost_N | self.counts_N
        if self.leaving_only:
            counts_N &= exit_index_N < len(self.lost_EN) - 1
        return int(lost_N.sum()) - gained, int(counts_N.sum())

    def net_losses(self, exit_index_N: ExitIndex) -> NetLosses:
        """Return the losses in [−1, 1] if the jets leave at these exits."""
        net, jets = self.observed(exit_index_N)
        lost = int(at_exit(self.lost_EN, exit_index_N).sum())
        return NetLosses(lost=lost, gained=lost - net, jets=jets)

    def expecting(self, loss_EN: Float[np.ndarray, "E N"]) -> "Risk":
        """Return the same risk with expected losses, times a factor for each exit that gives the counted sum."""
        counted_E, sum_E = self.loss_EN.sum(axis=1), loss_EN.sum(axis=1)
        factor_E = np.divide(counted_E, sum_E, out=np.zeros_like(sum_E), where=sum_E > 0)
        return replace(self, expected_EN=factor_E[:, None] * loss_EN)

    def expected(self, exit_index_N: ExitIndex) -> float:
        """Return the expected share of losses if the jets leave at these exits; as counted if nothing is expected."""
        lost, count = self.observed(exit_index_N)
        if self.expected_EN is not None:
            return float(at_exit(self.expected_EN, exit_index_N).sum()) / max(count, 1)
        return lost / max(count, 1)

    @property
    def loss_EN(self) -> Float[np.ndarray, "E N"]:
        """The loss of a jet if it leaves at an exit, as expected or counted; below 0 if it is gained."""
        if self.expected_EN is not None:
            return self.expected_EN
        return self.lost_EN.astype(float) - (0 if self.gained_EN is None else self.gained_EN)

    @property
    def penalty_EN(self) -> Float[np.ndarray, "E N"]:
        """What a jet adds to risk / ε if it leaves at an exit."""
        return self.loss_EN / (self.epsilon * max(1, int(self.counts_N.sum())))


class Target(Record, ABC):
    """What a policy has to keep. Its risks are tested on jets that did not shape the policy."""

    @abstractmethod
    def risks(self, answers: Answers) -> list[Risk]:
        """Return the risks that must stay below their limits.

        Raises:
            DataError: the true classes are unknown, or a class that is needed has no jets.
        """

    def shaping_risks(self, answers: Answers) -> list[Risk]:
        """Return the same risks for jets that shape policies, with expected losses where these are known better.

        The classes of the full model have probabilities p, with its temperature. A jet that gets class c in place of
        the full model's k is expected to be made wrong with p_k, and right with p_c. Every jet that changes class says
        how likely a loss is, whereas few of them are lost, by chance. A factor for each exit makes the sum over all
        jets that of the counted losses, as p may be too high or too low. The test counts losses.
        """
        return self.risks(answers)

    def scores(self, answers: Answers, name: str | None) -> list[ExitScore]:
        """Return the scores to try.

        Args:
            answers: for the jets that shape the policy.
            name: the user's choice; None: the score that suits the target.

        Raises:
            UsageError: the score does not suit the target.
            DataError: the score needs true classes that are unknown.
        """
        if name == "window":
            raise UsageError("exit_score = 'window' needs exit_target = 'signal_efficiency'")
        if name == "gate":
            return list[ExitScore](fit_gates(answers, self.gate_labels(answers)))
        return [make_score(name or "confidence")]

    def gate_labels(self, answers: Answers) -> Int[np.ndarray, " N"]:
        """Return the classes that a learned gate takes for the true ones."""
        _needs_labels(answers, "exit_score = 'gate'")
        return answers.label_N


@final
class AccuracyDrop(Target):
    """At most a fraction ε of the jets become wrong that the full model has right.

    So the accuracy falls by at most ε.
    """

    name: Literal["accuracy_drop"] = "accuracy_drop"
    epsilon: Share

    def risks(self, answers: Answers) -> list[Risk]:
        _needs_labels(answers, "exit_target = 'accuracy_drop'")
        correct_EN = answers.correct_EN
        return [Risk("jets made wrong", self.epsilon, np.ones(len(answers), dtype=bool), correct_EN[-1] & ~correct_EN)]

    def shaping_risks(self, answers: Answers) -> list[Risk]:
        (risk,), probability_EN = self.risks(answers), _full_probability(answers)
        return [risk.expecting(np.where(answers.class_EN != answers.class_EN[-1], probability_EN[-1], 0.0))]


@final
class NetAccuracyDrop(Target):
    """The accuracy falls by at most ε: jets that become wrong, less those that become right."""

    name: Literal["net_accuracy_drop"] = "net_accuracy_drop"
    epsilon: Share

    def risks(self, answers: Answers) -> list[Risk]:
        _needs_labels(answers, "exit_target = 'net_accuracy_drop'")
        correct_EN = answers.correct_EN
        lost_EN, gained_EN = correct_EN[-1] & ~correct_EN, ~correct_EN[-1] & correct_EN
        return [Risk("accuracy lost", self.epsilon, np.ones(len(answers), dtype=bool), lost_EN, gained_EN)]

    def shaping_risks(self, answers: Answers) -> list[Risk]:
        (risk,), probability_EN = self.risks(answers), _full_probability(answers)
        return [risk.expecting(probability_EN[-1] - probability_EN)]


@final
class Agreement(Target):
    """At most a fraction ε of the jets get another class than from the full model. Needs no labels."""

    name: Literal["agreement"] = "agreement"
    epsilon: Share

    def risks(self, answers: Answers) -> list[Risk]:
        class_EN = answers.class_EN
        return [Risk("other answers", self.epsilon, np.ones(len(answers), dtype=bool), class_EN != class_EN[-1])]

    def gate_labels(self, answers: Answers) -> Int[np.ndarray, " N"]:
        class_N: npt.NDArray[np.int64] = answers.class_EN[-1]
        return class_N


@final
class SignalEfficiency(Target):
    """A cut on p_s / (p_s + p_b) keeps its signal and its background rejection.

    At most a fraction ε is lost of the signal that the full model keeps at the signal efficiency ``efficiency``, and
    the accepted background grows by at most the fraction ``background_growth``. In the form ``reject`` jets leave only
    below the cut, and no background is added; in the form ``two_sided`` they also leave above it.
    """

    name: Literal["signal_efficiency"] = "signal_efficiency"
    epsilon: Share
    signal: str
    background: str
    efficiency: Share
    background_growth: Annotated[float, Field(gt=0)]
    form: Literal["reject", "two_sided"]
    cut: float | None = None  # in log-odds; from the jets that shape the policy

    def with_cut(self, answers: Answers) -> "SignalEfficiency":
        """Return the target with the cut at which the full model has the signal efficiency on these jets.

        Raises:
            DataError: a class has no jets, or no cut gives the efficiency because too many jets have the same score.
        """
        signal, background = self._classes(answers)
        odds_N = log_odds(answers.tensor_ENK[-1], signal, background).numpy()
        signal_odds = odds_N[answers.label_N == signal]
        cut = float(np.quantile(signal_odds, 1 - self.efficiency, method="lower"))
        reached = float((signal_odds >= cut).mean())
        if abs(reached - self.efficiency) > max(2 / len(signal_odds), 0.1 * (1 - self.efficiency)):
            raise DataError(
                f"the full model reaches no signal efficiency of {self.efficiency:g} for {self.signal}: many of the "
                f"{len(signal_odds)} jets score the same, the nearest is {reached:.3f}; change signal_efficiency"
            )
        return self.model_copy(update={"cut": cut})

    @property
    def most_added(self) -> float:
        """The largest share of added background among that which the full model or early exits accept.

        If the full model accepts b jets and early exits add a, a/b ≤ r means a/(a + b) ≤ r/(1 + r).
        """
        return self.background_growth / (1 + self.background_growth)

    def risks(self, answers: Answers) -> list[Risk]:
        assert self.cut is not None
        signal, background = self._classes(answers)
        kept_EN = (log_odds(answers.tensor_ENK, signal, background) >= self.cut).numpy()
        is_signal_N, is_background_N = answers.label_N == signal, answers.label_N == background
        lost = Risk("signal lost", self.epsilon, is_signal_N & kept_EN[-1], is_signal_N & kept_EN[-1] & ~kept_EN)
        # Background that early exits reject is not subtracted.
        accepted_N = is_background_N & kept_EN[-1]
        added = Risk("background added", self.most_added, accepted_N, is_background_N & ~kept_EN[-1] & kept_EN)
        return [lost] if self.form == "reject" else [lost, added]

    def scores(self, answers: Answers, name: str | None) -> list[ExitScore]:
        if name not in (None, "window"):
            raise UsageError(f"exit_target = 'signal_efficiency' takes exit_score = 'window', not {name!r}")
        assert self.cut is not None
        signal, background = self._classes(answers)
        accept = (0.0,) if self.form == "reject" else _ACCEPT
        return [Window(signal=signal, background=background, cut=self.cut, accept=value) for value in accept]

    def _classes(self, answers: Answers) -> tuple[int, int]:
        _needs_labels(answers, "exit_target = 'signal_efficiency'")
        indices = []
        for name in (self.signal, self.background):
            index = answers.class_names.index(name)
            if not (answers.label_N == index).any():
                raise DataError(f"the calibration files hold no jet of {name}; add files with that class")
            indices.append(index)
        return indices[0], indices[1]


@final
class Budget(Target):
    """The best accuracy at a mean cost, given as a share of the full model's. Nothing is promised."""

    name: Literal["budget"] = "budget"
    cost: Annotated[float, Field(gt=0, le=1)]

    def risks(self, answers: Answers) -> list[Risk]:
        return []


AnyTarget = Annotated[
    AccuracyDrop | NetAccuracyDrop | Agreement | SignalEfficiency | Budget, Field(discriminator="name")
]


def wrong_answers(answers: Answers) -> Risk:
    """Return the risk of a wrong class; if a true class is unknown, of another class than the full model's."""
    truth_N = answers.label_N if answers.labelled else answers.class_EN[-1]
    return Risk("wrong answers", 1.0, np.ones(len(answers), dtype=bool), answers.class_EN != truth_N)


def _full_probability(answers: Answers) -> Float[np.ndarray, "E N"]:
    """Return the probability that the full model gives to the class of each exit."""
    probability_NK = answers.tensor_ENK[-1].double().softmax(dim=-1).numpy()
    chosen_EN: npt.NDArray[np.float64] = probability_NK[np.arange(len(answers)), answers.class_EN]
    return chosen_EN


def _needs_labels(answers: Answers, what: str) -> None:
    unknown = int((answers.label_N < 0).sum())
    if unknown:
        raise DataError(
            f"{what} needs the true classes, which {unknown} of {len(answers)} jets lack; use labelled files, or "
            "exit_target = 'agreement'"
        )
