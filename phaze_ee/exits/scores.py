"""Exit scores: how sure a tagger is at an exit. A score consists of plain values, so that it can be stored."""

import itertools
import math
from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Literal, final

import torch
from pydantic import Field, PlainValidator, SerializeAsAny, TypeAdapter, ValidationError
from torch import Tensor

from phaze_ee.errors import UsageError
from phaze_ee.registry import Registry, unknown
from phaze_ee.results.base import Record
from phaze_ee.shapes import Float

_GATE_FEATURES = 4


class ExitScore(Record, ABC):
    """A score of the answers up to an exit. A jet leaves if its score reaches the threshold of the exit."""

    # Whether the score uses earlier exits too. Then these must be evaluated, even if no jet may leave there.
    uses_history: ClassVar[bool] = False
    # The least threshold that a fit may choose.
    lowest: ClassVar[float] = -math.inf
    name: str

    @abstractmethod
    def __call__(self, logits_ENK: Float[Tensor, "E N K"]) -> Float[Tensor, " N"]:
        """Return the score at the last of these exits; a larger score is surer.

        Args:
            logits_ENK: of this exit, the last, and of all before it. If they are NaN, so is the score, and the jet
                stays.
        """

    def check(self, exit_count: int) -> None:
        """Check that the score has its parameters for this number of exits, without the full model.

        Raises:
            UsageError: it has not.
        """


@final
class Confidence(ExitScore):
    """The largest class probability, between 1/K and 1."""

    name: Literal["confidence"] = "confidence"

    def __call__(self, logits_ENK: Float[Tensor, "E N K"]) -> Float[Tensor, " N"]:
        return logits_ENK[-1].softmax(dim=-1).amax(dim=-1)


@final
class NegativeEntropy(ExitScore):
    """1 − H(p)/log K: 0 if all classes are equally likely, 1 if one is certain (BranchyNet, arXiv:1709.01686)."""

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
    """The number of exits in a row, up to this one, that agree with the exit before (PABEE, arXiv:2006.04152)."""

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
    """A learned gate: the probability that the later exits gain less than they cost.

    It is one logistic regression per exit on four features: the largest probability, 1 − normalised entropy, the
    margin, and the fraction of earlier exits with the same class. :func:`phaze_ee.exits.fits.fit_gate` fits it.
    """

    name: Literal["gate"] = "gate"
    uses_history: ClassVar[bool] = True
    weight_EF: list[list[float]]
    bias_E: list[float]

    def check(self, exit_count: int) -> None:
        given = [len(self.weight_EF), len(self.bias_E), *map(len, self.weight_EF)]
        if given != [exit_count, exit_count, *[_GATE_FEATURES] * exit_count]:
            raise UsageError(
                f"the gate has weights of {', '.join(map(str, given[2:])) or 'no'} features and {given[1]} biases; "
                f"each of {exit_count} exits needs {_GATE_FEATURES} weights and a bias"
            )

    def __call__(self, logits_ENK: Float[Tensor, "E N K"]) -> Float[Tensor, " N"]:
        index = len(logits_ENK) - 1
        feature_NF = gate_features(logits_ENK)
        # A constant that is kept on the device would save a copy, and the export cannot write it.
        return (feature_NF @ feature_NF.new_tensor(self.weight_EF[index]) + self.bias_E[index]).sigmoid()


def gate_features(logits_ENK: Float[Tensor, "E N K"]) -> Float[Tensor, "N 4"]:
    """Return the four features of :class:`Gate` at the last of these exits."""
    answer_EN = logits_ENK.argmax(dim=-1)
    agreement_EN = (answer_EN[:-1] == answer_EN[-1]).to(logits_ENK.dtype)
    agreement_N = agreement_EN.mean(dim=0) if len(agreement_EN) else torch.zeros_like(logits_ENK[-1, :, 0])
    return torch.stack([*(score(logits_ENK) for score in (Confidence(), NegativeEntropy(), Margin())), agreement_N], 1)


@final
class Window(ExitScore):
    """The distance of a jet from a tagging cut, in ln(p_signal / p_background).

    Above the cut the distance is multiplied by ``accept``. With ``accept`` = 0 no jet leaves there: obvious background
    leaves early, and everything like the signal gets the full model.

    Attributes:
        signal: index of the signal class.
        background: index of the background class.
        cut: in ln(p_signal / p_background).
        accept: the factor above the cut.
    """

    lowest: ClassVar[float] = 0.0  # a lower threshold would let jets leave on the other side of the cut
    name: Literal["window"] = "window"
    signal: int
    background: int
    cut: float
    accept: Annotated[float, Field(ge=0)] = 0.0

    def __call__(self, logits_ENK: Float[Tensor, "E N K"]) -> Float[Tensor, " N"]:
        below_N = self.cut - log_odds(logits_ENK[-1], self.signal, self.background)
        return torch.maximum(below_N, -self.accept * below_N) if self.accept else below_N


def log_odds(logits_NK: Float[Tensor, "*N K"], signal: int, background: int) -> Float[Tensor, "*N"]:
    """Return ln(p_signal / p_background), the logit of the discriminant p_s / (p_s + p_b)."""
    return logits_NK[..., signal] - logits_NK[..., background]


@final
class FixedExit(ExitScore):
    """1 at one exit and 0 before it, so that every jet leaves there."""

    name: Literal["fixed"] = "fixed"
    exit: Annotated[int, Field(ge=0)]

    def __call__(self, logits_ENK: Float[Tensor, "E N K"]) -> Float[Tensor, " N"]:
        return torch.full_like(logits_ENK[-1, :, 0], float(len(logits_ENK) > self.exit))


EXIT_SCORES: Registry[type[ExitScore]] = Registry("exit_score", ExitScore)


def _stored_score(value: Any) -> ExitScore:
    """Return the score that a policy stores: plain values with the name of the score."""
    if isinstance(value, ExitScore):
        return value
    name = str(value.get("name")) if isinstance(value, dict) else ""
    if name not in EXIT_SCORES:
        raise ValueError(unknown("exit score", name, EXIT_SCORES))
    return EXIT_SCORES[name].model_validate(value)


# What a stored policy holds: one of the scores, identified by its name.
AnyExitScore = Annotated[SerializeAsAny[ExitScore], PlainValidator(_stored_score)]


def make_score(name: str, **parameters: Any) -> ExitScore:
    """Return a score by its name, with its parameters if it has any.

    Raises:
        UsageError: the score is unknown, or a parameter is missing or wrong.
    """
    if name not in EXIT_SCORES:
        raise UsageError(unknown("exit score", name, EXIT_SCORES))
    try:
        score: ExitScore = TypeAdapter(EXIT_SCORES[name]).validate_python(parameters)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"exit score {name!r}, parameter {where}: {first['msg'].lower()}") from error
    return score
