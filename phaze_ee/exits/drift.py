"""Whether new jets differ from the calibration jets of a policy, as far as the exits can tell.

A promise holds for jets from the same distribution as the calibration jets. Labels are not needed to notice that jets
differ: the exits where they leave, the exit scores and the answers are enough. Each of these is a histogram in fixed
bins, and Pearson's chi-square test of homogeneity compares two of them. torch is imported on use: the counts are read
where it is not installed.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self, final

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from phaze_ee.errors import UsageError
from phaze_ee.names import exit_names
from phaze_ee.results.base import Record, ResultsFile
from phaze_ee.shapes import Float, Int
from phaze_ee.stats import chi_square

if TYPE_CHECKING:
    from torch import Tensor

    from phaze_ee.exits.policies import ThresholdPolicy

EXIT, ANSWER, CONFIDENCE = "exit", "answer", "confidence of the answer"
_BINS = 20
# Values are rounded before they are binned. Otherwise rounding errors of the network could move jets across an edge
# if many have the same value, such as a confidence of 1.
_DECIMALS = 6
# Bins are merged until this many jets are expected in each, in both samples. With fewer, the chi-square distribution is
# a poor approximation.
_LEAST_EXPECTED = 10
_SHOWN = 3


class Distribution(Record):
    """A histogram of jets: below the first edge, between the edges, and from the last edge on.

    ``labels`` name the bins if each is a category; otherwise there are none.
    """

    edges: list[float]
    counts: list[int]
    labels: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.counts) != len(self.edges) + 1 or len(self.labels) not in (0, len(self.counts)):
            raise ValueError("the numbers of edges, counts and labels do not fit")
        if sorted(self.edges) != self.edges or min(self.counts) < 0:
            raise ValueError("edges must rise, and counts cannot be negative")
        return self


@final
class DriftReference(Record):
    """Histograms of what the exits did with a sample of jets, the calibration jets or others in the same bins.

    There are histograms of the exit where jets leave; of the assigned class, and the probability of each class; for
    each exit with a finite threshold, of the scores of jets that reach it; and for each assigned class, of the exit
    where its jets leave.
    """

    distributions: dict[str, Distribution]

    @property
    def jets(self) -> int:
        """The number of jets."""
        return sum(self.distributions[EXIT].counts)

    @classmethod
    def of(
        cls,
        policy: "ThresholdPolicy",
        logits_ENK: "Float[Tensor, 'E N K']",
        exit_index_N: "Int[Tensor, ' N']",
        class_names: Sequence[str],
    ) -> Self:
        """Count jets in bins that are chosen so that each holds about the same number of these jets.

        Args:
            policy: the policy by which the jets left.
            logits_ENK: of all exits, the full model last, divided by the policy's temperatures. Logits after the exit
                where a jet left are not used.
            exit_index_N: the exit where each jet left.
            class_names: the K classes.
        """
        values = _values(policy, logits_ENK, exit_index_N, class_names)
        labels: dict[str, Sequence[str]] = {name: exit_names(len(logits_ENK)) for name in values if _of_exits(name)}
        labels[ANSWER] = class_names
        empty = {name: _empty(value_N, labels.get(name, ())) for name, value_N in values.items()}
        return cls(distributions=empty).count(policy, logits_ENK, exit_index_N)

    def count(
        self, policy: "ThresholdPolicy", logits_ENK: "Float[Tensor, 'E N K']", exit_index_N: "Int[Tensor, ' N']"
    ) -> Self:
        """Count other jets in the same bins, with the arguments of :meth:`of`.

        Raises:
            UsageError: the histograms are of another policy or of other classes.
        """
        classes = self.distributions[ANSWER].labels if ANSWER in self.distributions else []
        values = _values(policy, logits_ENK, exit_index_N, classes)
        if values.keys() != self.distributions.keys():
            other = min(values.keys() ^ self.distributions.keys())
            raise UsageError(f"the reference for --monitor does not fit the policy ({other!r}); run mode 'calibrate'")
        counted = {name: _count(own, values[name]) for name, own in self.distributions.items()}
        return type(self)(distributions=counted)

    def __add__(self, other: "DriftReference") -> "DriftReference":
        """Return the sum of two samples that are counted in the same bins."""
        both = {
            name: own.model_copy(update={"counts": np.add(own.counts, other.distributions[name].counts).tolist()})
            for name, own in self.distributions.items()
        }
        return DriftReference(distributions=both)


class DriftTest(Record):
    """A chi-square test of one distribution.

    ``alarm`` is True if ``p_value`` is below the significance divided by the number of tests. ``change`` tells in words
    what changed.
    """

    name: str
    chi_square: float
    degrees_of_freedom: int
    p_value: float
    alarm: bool
    change: str


class DriftReport(ResultsFile):
    """``drift.json``: the tests, and the histograms of the observed jets.

    ``significance`` is the probability of any alarm if nothing changed.
    """

    significance: float
    reference_jets: int
    jets: int
    tests: list[DriftTest]
    observed: DriftReference

    @property
    def alarms(self) -> list[DriftTest]:
        """The tests that raised an alarm."""
        return [test for test in self.tests if test.alarm]

    @property
    def only_class_prior(self) -> bool:
        """Whether a change of the class prior alone may explain the alarms.

        That is so if the assigned classes changed, but jets with the same assigned class leave as before.
        """
        names = {test.name for test in self.alarms}
        return ANSWER in names and not any(_of_exits(name) and name != EXIT for name in names)


def compare(reference: DriftReference, observed: DriftReference, significance: float) -> DriftReport:
    """Test every distribution for which both samples have enough jets.

    Args:
        reference: counts of the calibration jets.
        observed: counts of other jets in the same bins.
        significance: the probability of any alarm if both samples come from the same distribution. The p-values of
            single tests are compared with a fraction of it (Bonferroni).
    """
    tables = {
        name: table
        for name, own in reference.distributions.items()
        if (table := _merged(np.array([own.counts, observed.distributions[name].counts]))).shape[1] > 1
    }
    tests = []
    for name, table in tables.items():
        result = chi_square(table)
        tests.append(
            DriftTest(
                name=name,
                chi_square=result.statistic,
                degrees_of_freedom=result.degrees_of_freedom,
                p_value=result.p_value,
                alarm=result.p_value < significance / len(tables),
                change=_change(reference.distributions[name], observed.distributions[name]),
            )
        )
    return DriftReport(
        significance=significance, reference_jets=reference.jets, jets=observed.jets, tests=tests, observed=observed
    )


def _of_exits(name: str) -> bool:
    return name == EXIT or name.startswith(f"{EXIT} of ")


def _values(
    policy: "ThresholdPolicy",
    logits_ENK: "Float[Tensor, 'E N K']",
    exit_index_N: "Int[Tensor, ' N']",
    class_names: Sequence[str],
) -> "Mapping[str, Tensor]":
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


def _empty(value_N: "Tensor", labels: Sequence[str]) -> Distribution:
    if labels:
        edges = np.arange(1, len(labels)) - 0.5
    else:
        quantiles = np.arange(1, _BINS) / _BINS
        edges = np.unique(np.quantile(_rounded(value_N), quantiles)) if len(value_N) else np.empty(0)
    return Distribution(edges=edges.tolist(), counts=[0] * (len(edges) + 1), labels=list(labels))


def _count(empty: Distribution, value_N: "Tensor") -> Distribution:
    bin_N = np.searchsorted(empty.edges, _rounded(value_N), side="right")
    return empty.model_copy(update={"counts": np.bincount(bin_N, minlength=len(empty.counts)).tolist()})


def _rounded(value_N: "Tensor") -> Float[np.ndarray, " N"]:
    rounded_N: npt.NDArray[np.float64] = np.round(np.nan_to_num(value_N.double().cpu().numpy()), _DECIMALS)
    return rounded_N


def _merged(table_2B: Int[np.ndarray, "2 B"]) -> Int[np.ndarray, "2 B"]:
    """Merge neighbouring bins until enough jets are expected in each; no bin is left if a sample is too small."""
    smaller = table_2B.sum(axis=1).min() / max(1, table_2B.sum())
    merged: list[npt.NDArray[np.int64]] = []
    open_2 = np.zeros(2, dtype=np.int64)
    for column_2 in table_2B.T:
        open_2 = open_2 + column_2
        if open_2.sum() * smaller >= _LEAST_EXPECTED:
            merged.append(open_2)
            open_2 = np.zeros(2, dtype=np.int64)
    if merged:
        merged[-1] = merged[-1] + open_2
    return np.stack(merged, axis=1) if merged else np.empty((2, 0), dtype=np.int64)


def _change(reference: Distribution, observed: Distribution) -> str:
    before_B, after_B = (np.array(own.counts) / max(1, sum(own.counts)) for own in (reference, observed))
    if not reference.labels:
        middle_B = before_B.cumsum() - before_B / 2
        return f"the mean jet lies at {after_B @ middle_B:.1%} of the reference (50% if nothing changed)"
    error_B = np.sqrt(before_B / max(1, sum(reference.counts)) + before_B / max(1, sum(observed.counts))) + 1e-12
    largest = np.argsort(-np.abs(after_B - before_B) / error_B)[:_SHOWN]
    moved = [bin_ for bin_ in largest if before_B[bin_] != after_B[bin_]]
    return ", ".join(f"{reference.labels[bin_]} {before_B[bin_]:.2%} → {after_B[bin_]:.2%}" for bin_ in moved)
