"""What an exit policy may cost: targets, and the risks by which calibration holds a policy to them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Literal, final

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float
from pydantic import Field

from phaze_ee.errors import DataError, UsageError
from phaze_ee.exits.answers import BoolArray, CalibrationJets, FloatArray
from phaze_ee.exits.fits import fit_gates
from phaze_ee.exits.scores import ExitScore, Window, log_odds, make_score
from phaze_ee.results.base import Record

Share = Annotated[float, Field(gt=0, lt=1)]
# How much nearer to the cut a jet on the signal side may leave than one on the other: what the two-sided window tries.
_ACCEPT = (0.25, 0.5, 1.0, 2.0, 4.0)


@final
@dataclass(frozen=True)
class Risk:
    """A probability that must stay below ``epsilon``: that a jet is lost, given that it counts.

    A jet is lost if it leaves at an exit where ``lost_EN`` says so. The jets that count are those of ``counts_N`` and
    those that are lost.
    """

    name: str
    epsilon: float
    counts_N: Bool[BoolArray, " N"]
    lost_EN: Bool[BoolArray, "E N"]

    def observed(self, exit_index_N: npt.NDArray[np.int64]) -> tuple[int, int]:
        """Return the numbers of jets that are lost and that count, for jets that leave at these exits."""
        lost_N = self.lost_EN[exit_index_N, np.arange(len(exit_index_N))]
        return int(lost_N.sum()), int((lost_N | self.counts_N).sum())

    @property
    def penalty_EN(self) -> Float[FloatArray, "E N"]:
        """What a lost jet adds to risk / ε."""
        return self.lost_EN / (self.epsilon * max(1, int(self.counts_N.sum())))


class Target(Record, ABC):
    """What a policy has to keep. Calibration asks for risks on jets that did not shape the policy."""

    @abstractmethod
    def risks(self, jets: CalibrationJets) -> list[Risk]:
        """Return the risks to hold down.

        Raises:
            DataError: the jets cannot tell: their classes are unknown, or one that is needed is missing.
        """

    def scores(self, jets: CalibrationJets, name: str | None) -> list[ExitScore]:
        """Return the scores to try, by jets that shape the policy.

        Args:
            jets: the jets.
            name: the user's choice; None: what suits the target.

        Raises:
            UsageError: the score does not suit the target.
        """
        if name == "window":
            raise UsageError("exit_score = 'window' needs exit_target = 'signal_efficiency'")
        if name == "gate":
            return list[ExitScore](fit_gates(jets, self.gate_labels(jets)))
        return [make_score(name or "confidence")]

    def gate_labels(self, jets: CalibrationJets) -> npt.NDArray[np.int64]:
        """Return the classes that a learned gate takes for true."""
        _needs_labels(jets, "exit_score = 'gate'")
        return jets.label_N


@final
class AccuracyDrop(Target):
    """At most ε of the jets become wrong that the full model has right; the accuracy falls by no more."""

    name: Literal["accuracy_drop"] = "accuracy_drop"
    epsilon: Share

    def risks(self, jets: CalibrationJets) -> list[Risk]:
        _needs_labels(jets, "exit_target = 'accuracy_drop'")
        correct_EN = jets.correct_EN
        return [Risk("jets made wrong", self.epsilon, np.ones(len(jets), dtype=bool), correct_EN[-1] & ~correct_EN)]


@final
class Agreement(Target):
    """At most ε of the jets get another class than from the full model. Needs no labels."""

    name: Literal["agreement"] = "agreement"
    epsilon: Share

    def risks(self, jets: CalibrationJets) -> list[Risk]:
        answer_EN = jets.answer_EN
        return [Risk("other answers", self.epsilon, np.ones(len(jets), dtype=bool), answer_EN != answer_EN[-1])]

    def gate_labels(self, jets: CalibrationJets) -> npt.NDArray[np.int64]:
        answer_N: npt.NDArray[np.int64] = jets.answer_EN[-1]
        return answer_N


@final
class SignalEfficiency(Target):
    """A cut on p_s / (p_s + p_b) keeps its signal and its background rejection.

    Of the signal that the full model keeps at its efficiency ``efficiency``, at most ε is lost; and the background
    that is accepted grows by at most ``background_growth``, relatively. In the form ``reject`` jets leave only below
    the cut, so that no background is added at all; in ``two_sided`` they also leave above.
    """

    name: Literal["signal_efficiency"] = "signal_efficiency"
    epsilon: Share
    signal: str
    background: str
    efficiency: Share
    background_growth: Annotated[float, Field(gt=0)]
    form: Literal["reject", "two_sided"]
    cut: float | None = None  # in log-odds; set from the jets that shape the policy

    def with_cut(self, jets: CalibrationJets) -> "SignalEfficiency":
        """Return the target with the cut at which the full model has its signal efficiency on these jets.

        Raises:
            DataError: the classes have no jets, or no cut gives the efficiency because too many jets score the same.
        """
        signal, background = self._classes(jets)
        odds_N = log_odds(jets.logits_ENK[-1], signal, background).numpy()
        signal_odds = odds_N[jets.label_N == signal]
        cut = float(np.quantile(signal_odds, 1 - self.efficiency, method="lower"))
        reached = float((signal_odds >= cut).mean())
        if abs(reached - self.efficiency) > max(2 / len(signal_odds), 0.1 * (1 - self.efficiency)):
            raise DataError(
                f"the full model reaches no signal efficiency of {self.efficiency:g} for {self.signal}: many of the "
                f"{len(signal_odds)} jets score the same, the nearest is {reached:.3f}; change signal_efficiency"
            )
        return self.model_copy(update={"cut": cut})

    def risks(self, jets: CalibrationJets) -> list[Risk]:
        assert self.cut is not None
        signal, background = self._classes(jets)
        kept_EN = (log_odds(jets.logits_ENK, signal, background) >= self.cut).numpy()
        is_signal_N, is_background_N = jets.label_N == signal, jets.label_N == background
        lost = Risk("signal lost", self.epsilon, is_signal_N & kept_EN[-1], is_signal_N & kept_EN[-1] & ~kept_EN)
        # With b of the background accepted by the full model and a added, a/b ≤ r is a/(a + b) ≤ r/(1 + r): a
        # probability among the jets that one of the two accepts. Background that leaving early rejects is not set off.
        share = self.background_growth / (1 + self.background_growth)
        accepted_N = is_background_N & kept_EN[-1]
        added = Risk("background added", share, accepted_N, is_background_N & ~kept_EN[-1] & kept_EN)
        return [lost] if self.form == "reject" else [lost, added]

    def scores(self, jets: CalibrationJets, name: str | None) -> list[ExitScore]:
        if name not in (None, "window"):
            raise UsageError(f"exit_target = 'signal_efficiency' takes exit_score = 'window', not {name!r}")
        assert self.cut is not None
        signal, background = self._classes(jets)
        accept = (0.0,) if self.form == "reject" else _ACCEPT
        return [Window(signal=signal, background=background, cut=self.cut, accept=value) for value in accept]

    def _classes(self, jets: CalibrationJets) -> tuple[int, int]:
        _needs_labels(jets, "exit_target = 'signal_efficiency'")
        indices = []
        for name in (self.signal, self.background):
            index = jets.class_names.index(name)
            if not (jets.label_N == index).any():
                raise DataError(f"the calibration files hold no jet of {name}; add files with that class")
            indices.append(index)
        return indices[0], indices[1]


@final
class Budget(Target):
    """The best accuracy at a mean cost, as a share of the full model's. Nothing is guaranteed."""

    name: Literal["budget"] = "budget"
    cost: Annotated[float, Field(gt=0, le=1)]

    def risks(self, jets: CalibrationJets) -> list[Risk]:
        return []


AnyTarget = Annotated[AccuracyDrop | Agreement | SignalEfficiency | Budget, Field(discriminator="name")]


def wrong_answers(jets: CalibrationJets) -> Risk:
    """Return the risk of a wrong answer; without labels, of another answer than the full model's. It is 1 at most."""
    truth_N = jets.label_N if (jets.label_N >= 0).all() else jets.answer_EN[-1]
    return Risk("wrong answers", 1.0, np.ones(len(jets), dtype=bool), jets.answer_EN != truth_N)


def _needs_labels(jets: CalibrationJets, what: str) -> None:
    unknown = int((jets.label_N < 0).sum())
    if unknown:
        raise DataError(
            f"{what} needs the true classes, which {unknown} of {len(jets)} jets lack; use labelled files, or "
            "exit_target = 'agreement'"
        )
