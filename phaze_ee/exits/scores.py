"""How sure a tagger is at an exit: the registry of scores. Each is plain values and can be stored."""

import itertools
import math
from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Literal, final

import torch
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor

from phaze_ee.errors import UsageError
from phaze_ee.results.base import Record
from phaze_ee.shapes import Float


class ExitScore(Record, ABC):
    """A score of the answers up to an exit; a jet leaves where it reaches the threshold of that exit."""

    # Whether the score looks at earlier exits too; these must be evaluated then, even where no jet may leave.
    uses_history: ClassVar[bool] = False
    # Below this, a jet must not leave whatever the threshold would gain.
    lowest: ClassVar[float] = -math.inf
    name: str

    @abstractmethod
    def __call__(self, logits_ENK: Float[Tensor, "E N K"]) -> Float[Tensor, " N"]:
        """Return how sure the tagger is at the last of these exits, by the logits of it and of all before.

        Larger is surer. Where logits are not numbers, neither is the score, and the jet stays.
        """


@final
class Confidence(ExitScore):
    """The largest class probability, between 1/K and 1."""

    name: Literal["confidence"] = "confidence"

    def __call__(self, logits_ENK: Float[Tensor, "E N K"]) -> Float[Tensor, " N"]:
        return logits_ENK[-1].softmax(dim=-1).amax(dim=-1)


@final
class NegativeEntropy(ExitScore):
    """1 − H(p)/log K: 0 where all classes are equally likely, 1 where one is certain (BranchyNet, arXiv:1709.01686)."""

    name: Literal["entropy"] = "entropy"

    def __call__(self, logits_ENK: Float[Tensor, "E N K"]) -> Float[Tensor, " N"]:
        log_p_NK = logits_ENK[-1].log_softmax(dim=-1)
        entropy_N = -(log_p_NK.exp() * log_p_NK).sum(dim=-1)
        return 1 - entropy_N / math.log(logits_ENK.shape[-1])


@final
class Margin(ExitScore):
    """The largest class probability minus the second largest, between 0 and 1."""

    name: Literal["margin"] = "margin"

    def __call__(self, logits_ENK: Float[Tensor, "E N K"]) -> Float[Tensor, " N"]:
        first_N, second_N = logits_ENK[-1].softmax(dim=-1).topk(2, dim=-1).values.unbind(dim=-1)
        return first_N - second_N


@final
class Patience(ExitScore):
    """How many times in a row, up to this exit, the answer was the one of the exit before (PABEE, arXiv:2006.04152)."""

    name: Literal["patience"] = "patience"
    uses_history: ClassVar[bool] = True

    def __call__(self, logits_ENK: Float[Tensor, "E N K"]) -> Float[Tensor, " N"]:
        count_N = torch.zeros_like(logits_ENK[-1, :, 0])
        for before_NK, after_NK in itertools.pairwise(logits_ENK):
            same_N = before_NK.argmax(dim=-1) == after_NK.argmax(dim=-1)
            count_N = (count_N + 1).where(same_N, 0)
        return count_N


@final
class Gate(ExitScore):
    """A learned decision: the probability that nothing is gained by going on (early_exit, algorithm 7).

    One logistic regression per exit on four features: largest probability, 1 − normalised entropy, margin, and the
    share of earlier exits that gave the same answer. :mod:`phaze_ee.exits.gate` fits it.
    """

    name: Literal["gate"] = "gate"
    uses_history: ClassVar[bool] = True
    weight_EF: list[list[float]]
    bias_E: list[float]

    def __call__(self, logits_ENK: Float[Tensor, "E N K"]) -> Float[Tensor, " N"]:
        index = len(logits_ENK) - 1
        feature_NF = gate_features(logits_ENK)
        return (feature_NF @ feature_NF.new_tensor(self.weight_EF[index]) + self.bias_E[index]).sigmoid()


def gate_features(logits_ENK: Float[Tensor, "E N K"]) -> Float[Tensor, "N 4"]:
    """Return what :class:`Gate` decides by, at the last of these exits."""
    answer_EN = logits_ENK.argmax(dim=-1)
    agreement_EN = (answer_EN[:-1] == answer_EN[-1]).to(logits_ENK.dtype)
    agreement_N = agreement_EN.mean(dim=0) if len(agreement_EN) else torch.zeros_like(logits_ENK[-1, :, 0])
    return torch.stack([*(score(logits_ENK) for score in (Confidence(), NegativeEntropy(), Margin())), agreement_N], 1)


@final
class Window(ExitScore):
    """How far a jet is outside a window around a tagging cut, in ln(p_signal / p_background) (algorithm 3).

    Below the cut a jet is as far outside as it is below; above the cut, ``accept`` times as far as it is above. With
    ``accept`` = 0 nothing leaves there: obvious background goes early, what resembles the signal gets the full model.
    """

    lowest: ClassVar[float] = 0.0  # the cut itself: a jet that leaves is on the side that its score says
    name: Literal["window"] = "window"
    signal: int
    background: int
    cut: float
    accept: Annotated[float, Field(ge=0)] = 0.0

    def __call__(self, logits_ENK: Float[Tensor, "E N K"]) -> Float[Tensor, " N"]:
        below_N = self.cut - log_odds(logits_ENK[-1], self.signal, self.background)
        return torch.maximum(below_N, -self.accept * below_N) if self.accept else below_N


def log_odds(logits_NK: Float[Tensor, "*N K"], signal: int, background: int) -> Float[Tensor, "*N"]:
    """Return ln(p_signal / p_background), of which the discriminant p_s / (p_s + p_b) is the logistic function."""
    return logits_NK[..., signal] - logits_NK[..., background]


@final
class FixedExit(ExitScore):
    """1 at one exit and 0 before: every jet leaves there."""

    name: Literal["fixed"] = "fixed"
    exit: Annotated[int, Field(ge=0)]

    def __call__(self, logits_ENK: Float[Tensor, "E N K"]) -> Float[Tensor, " N"]:
        return torch.full_like(logits_ENK[-1, :, 0], float(len(logits_ENK) > self.exit))


EXIT_SCORES: dict[str, type[ExitScore]] = {
    "confidence": Confidence,
    "entropy": NegativeEntropy,
    "margin": Margin,
    "patience": Patience,
    "gate": Gate,
    "window": Window,
    "fixed": FixedExit,
}

# What a stored policy holds: one of the scores, told apart by its name.
AnyExitScore = Annotated[
    Confidence | NegativeEntropy | Margin | Patience | Gate | Window | FixedExit, Field(discriminator="name")
]


def make_score(name: str, **parameters: Any) -> ExitScore:
    """Return a score by its name and, where it has some, its parameters.

    Raises:
        UsageError: the score is unknown, or a parameter is missing or wrong.
    """
    if name not in EXIT_SCORES:
        raise UsageError(f"unknown exit score {name!r}; choose from {', '.join(EXIT_SCORES)}")
    try:
        score: ExitScore = TypeAdapter(EXIT_SCORES[name]).validate_python(parameters)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"exit score {name!r}, parameter {where}: {first['msg'].lower()}") from error
    return score
