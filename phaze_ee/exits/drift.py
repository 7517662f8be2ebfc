"""Histograms of jets, by which new jets are compared with the calibration jets of a policy.

A promise holds for jets from the same distribution as the calibration jets. Labels are not needed to notice that jets
differ: the exits where they leave, the exit scores, the answers and the inputs are enough. Each of these is a histogram
in fixed bins; :mod:`phaze_ee.exits.evidence` tests them. torch is imported on use: the counts are read where it is not
installed.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Self, final

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from phaze_ee.errors import UsageError
from phaze_ee.exits.observables import OBSERVABLES
from phaze_ee.names import exit_names
from phaze_ee.results.base import Record
from phaze_ee.shapes import Float, Int

if TYPE_CHECKING:
    from torch import Tensor

    from phaze_ee.exits.policies import ThresholdPolicy

EXIT, ANSWER, CONFIDENCE = "exit", "answer", "confidence of the answer"
_BINS = 20
_MOST = 10**15  # jets in a bin: sums over the bins stay exact
# Values are rounded before they are binned. Otherwise rounding errors of the network could move jets across an edge
# if many have the same value, such as a confidence of 1.
_DECIMALS = 6


Count = Annotated[int, Field(ge=0, le=_MOST)]


class Distribution(Record):
    """A histogram of jets: below the first edge, between the edges, and from the last edge on.

    ``labels`` name the bins if each is a category; otherwise there are none.
    """

    edges: list[float]
    counts: list[Count]
    labels: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.counts) != len(self.edges) + 1 or len(self.labels) not in (0, len(self.counts)):
            raise ValueError("the numbers of edges, counts and labels do not fit")
        if sorted(self.edges) != self.edges:
            raise ValueError("edges must rise")
        return self


@final
class DriftReference(Record):
    """Histograms of what the exits did with a sample of jets, and of the inputs: calibration jets, or others.

    There are histograms of the exit where jets leave; of the assigned class, and the probability of each class; for
    each exit with a finite threshold, of the scores of jets that reach it; for each assigned class, of the exit where
    its jets leave; and of each observable of the inputs. Those of older policies have no inputs.
    """

    distributions: dict[str, Distribution]

    @property
    def edges(self) -> dict[str, list[float]]:
        """The edges of each histogram's bins."""
        return {name: own.edges for name, own in self.distributions.items()}

    @property
    def jets(self) -> int:
        """The number of jets."""
        return sum(self.distributions[EXIT].counts) if EXIT in self.distributions else 0

    @classmethod
    def of(
        cls,
        policy: "ThresholdPolicy",
        logits_ENK: "Float[Tensor, 'E N K']",
        exit_index_N: "Int[Tensor, ' N']",
        class_names: Sequence[str],
        inputs: "Mapping[str, Tensor] | None" = None,
    ) -> Self:
        """Count jets in bins that are chosen so that each holds about the same number of these jets.

        Args:
            policy: the policy by which the jets left.
            logits_ENK: of all exits, the full model last, divided by the policy's temperatures. Logits after the exit
                where a jet left are not used.
            exit_index_N: the exit where each jet left.
            class_names: the K classes.
            inputs: observables of the inputs of the jets (:func:`phaze_ee.exits.observables.input_observables`).
        """
        values = _values(policy, logits_ENK, exit_index_N, class_names) | dict(inputs or {})
        labels: dict[str, Sequence[str]] = {name: exit_names(len(logits_ENK)) for name in values if of_exits(name)}
        labels[ANSWER] = class_names
        bins = {name: _bins(value_N, labels.get(name, ())) for name, value_N in values.items()}
        return cls(distributions=bins).count(policy, logits_ENK, exit_index_N, inputs)

    def count(
        self,
        policy: "ThresholdPolicy",
        logits_ENK: "Float[Tensor, 'E N K']",
        exit_index_N: "Int[Tensor, ' N']",
        inputs: "Mapping[str, Tensor] | None" = None,
    ) -> Self:
        """Count other jets in the same bins, with the arguments of :meth:`of`.

        Observables that these histograms lack are left out.

        Raises:
            UsageError: the histograms are of another policy or of other classes, or of an observable that is missing.
        """
        classes = self.distributions[ANSWER].labels if ANSWER in self.distributions else []
        known = {name: value_N for name, value_N in (inputs or {}).items() if name in self.distributions}
        values = _values(policy, logits_ENK, exit_index_N, classes) | known
        if values.keys() != self.distributions.keys():
            other = min(values.keys() ^ self.distributions.keys())
            raise UsageError(f"the reference for --monitor does not fit the policy ({other!r}); run mode 'calibrate'")
        counted = {name: _count(own, values[name]) for name, own in self.distributions.items()}
        return type(self)(distributions=counted)

    @property
    def empty(self) -> "DriftReference":
        """The same bins without jets."""
        emptied = {
            name: own.model_copy(update={"counts": [0] * len(own.counts)}) for name, own in self.distributions.items()
        }
        return DriftReference(distributions=emptied)

    @property
    def untested(self) -> list[str]:
        """The observables of the inputs that have no histogram."""
        return [name for name in OBSERVABLES if name not in self.distributions]

    def __add__(self, other: "DriftReference") -> "DriftReference":
        """Return the sum of two samples that are counted in the same bins."""
        both = {
            name: own.model_copy(update={"counts": np.add(own.counts, other.distributions[name].counts).tolist()})
            for name, own in self.distributions.items()
        }
        return DriftReference(distributions=both)


def of_exits(name: str) -> bool:
    """Return whether a distribution is one of exits."""
    return name == EXIT or name.startswith(f"{EXIT} of ")


def _values(
    policy: "ThresholdPolicy",
    logits_ENK: "Float[Tensor, 'E N K']",
    exit_index_N: "Int[Tensor, ' N']",
    class_names: Sequence[str],
) -> "dict[str, Tensor]":
    """Return the values that each distribution is filled with."""
    import torch

    names = exit_names(len(logits_ENK))
    probability_NK = logits_ENK[exit_index_N, torch.arange(len(exit_index_N))].softmax(dim=-1)
    answer_N = probability_NK.argmax(dim=-1)
    values = {EXIT: exit_index_N, ANSWER: answer_N, CONFIDENCE: probability_NK.amax(dim=-1)}
    values |= {f"score of {name}": probability_NK[:, index] for index, name in enumerate(class_names)}
    for index, threshold in enumerate(policy.thresholds):
        if threshold < math.inf:
            reached_N = exit_index_N >= index
            values[f"{policy.score.name} at {names[index]}"] = policy.score(logits_ENK[: index + 1, reached_N])
    return values | {f"{EXIT} of {name}": exit_index_N[answer_N == index] for index, name in enumerate(class_names)}


def _bins(value_N: "Tensor", labels: Sequence[str]) -> Distribution:
    if labels:
        edges = np.arange(1, len(labels)) - 0.5
    else:
        quantiles = np.arange(1, _BINS) / _BINS
        edges = np.unique(np.quantile(_rounded(value_N), quantiles)) if len(value_N) else np.empty(0)
    return Distribution(edges=edges.tolist(), counts=[0] * (len(edges) + 1), labels=list(labels))


def _count(bins: Distribution, value_N: "Tensor") -> Distribution:
    bin_N = np.searchsorted(bins.edges, _rounded(value_N), side="right")
    return bins.model_copy(update={"counts": np.bincount(bin_N, minlength=len(bins.counts)).tolist()})


def _rounded(value_N: "Tensor") -> Float[np.ndarray, " N"]:
    rounded_N: npt.NDArray[np.float64] = np.round(np.nan_to_num(value_N.double().cpu().numpy()), _DECIMALS)
    return rounded_N
