"""Whether the jets of today look to the exits as the jets did on which a policy was calibrated.

A guarantee holds for jets like the calibration jets. Labels are not needed to notice that jets differ: the rates of the
exits, the scores they decide by and the answers are enough. All of these are histograms in fixed bins, and a chi-square
test compares two of them (Pearson 1900; for two samples as in Numerical Recipes, section 14.3).
"""

from collections.abc import Mapping, Sequence
from typing import Self, final

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.names import exit_names
from phaze_ee.results.base import Record, ResultsFile
from phaze_ee.stats import chi_square

EXIT, ANSWER, CONFIDENCE = "exit", "answer", "confidence of the answer"
_BINS = 20
# Values are rounded before they are binned: rounding errors of the network must not move jets across an edge where
# many have the same value, such as a confidence of 1.
_DECIMALS = 6
# Bins are merged until each sample expects this many jets in each; below, the chi-square distribution is no good guide.
_LEAST_EXPECTED = 10
_SHOWN = 3


class Distribution(Record):
    """Jets counted in bins: below the first of the ``edges``, between them, and from the last one on.

    ``labels`` name the bins where each is a category.
    """

    edges: list[float]
    counts: list[int]
    labels: list[str] = Field(default_factory=list)


@final
class DriftReference(Record):
    """What the exits made of a sample of jets: of the calibration jets, or in the same bins of others.

    Distributions: where jets leave; the answers and the probabilities they give to each class; for each exit that is
    offered, the score of the jets that reach it; for each answer, where the jets leave that get it.
    """

    distributions: dict[str, Distribution]

    @property
    def jets(self) -> int:
        return sum(self.distributions[EXIT].counts)

    @classmethod
    def of(
        cls,
        policy: ThresholdPolicy,
        logits_ENK: Float[Tensor, "E N K"],
        exit_index_N: Int[Tensor, " N"],
        class_names: Sequence[str],
    ) -> Self:
        """Count jets in bins made for them, of about equal numbers of jets.

        Args:
            policy: which let the jets go.
            logits_ENK: the answers of all exits, the full model last, divided by the policy's temperatures. What stands
                behind the exit where a jet left is not looked at.
            exit_index_N: where the jets left.
            class_names: the K classes.
        """
        values = _values(policy, logits_ENK, exit_index_N, class_names)
        labels: dict[str, Sequence[str]] = {name: exit_names(len(logits_ENK)) for name in values if _of_exits(name)}
        labels[ANSWER] = class_names
        empty = {name: _empty(value_N, labels.get(name, ())) for name, value_N in values.items()}
        return cls(distributions=empty).count(policy, logits_ENK, exit_index_N)

    def count(
        self, policy: ThresholdPolicy, logits_ENK: Float[Tensor, "E N K"], exit_index_N: Int[Tensor, " N"]
    ) -> Self:
        """Count other jets in the same bins; the arguments are those of :meth:`of`."""
        values = _values(policy, logits_ENK, exit_index_N, self.distributions[ANSWER].labels)
        counted = {name: _count(own, values[name]) for name, own in self.distributions.items()}
        return type(self)(distributions=counted)

    def __add__(self, other: "DriftReference") -> "DriftReference":
        """Return the counts of two samples, in the same bins, together."""
        both = {
            name: own.model_copy(update={"counts": np.add(own.counts, other.distributions[name].counts).tolist()})
            for name, own in self.distributions.items()
        }
        return DriftReference(distributions=both)


class DriftTest(Record):
    """A chi-square test of one distribution; ``alarm``: p is below the significance divided by the number of tests."""

    name: str
    chi_square: float
    degrees_of_freedom: int
    p_value: float
    alarm: bool
    change: str


class DriftReport(ResultsFile):
    """``drift.json``: the reference, what was observed, and the tests."""

    significance: float
    reference_jets: int
    jets: int
    tests: list[DriftTest]
    observed: DriftReference

    @property
    def alarms(self) -> list[DriftTest]:
        return [test for test in self.tests if test.alarm]

    @property
    def only_the_mix(self) -> bool:
        """Whether jets with the same answer leave as they did, so that another mix of classes may be all there is."""
        names = {test.name for test in self.alarms}
        return ANSWER in names and not any(_of_exits(name) and name != EXIT for name in names)


def compare(reference: DriftReference, observed: DriftReference, significance: float) -> DriftReport:
    """Test every distribution that both samples have enough jets for.

    Args:
        reference: of the calibration jets.
        observed: in the same bins.
        significance: the probability of any alarm if both come from the same distribution (Bonferroni).
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
    policy: ThresholdPolicy,
    logits_ENK: Float[Tensor, "E N K"],
    exit_index_N: Int[Tensor, " N"],
    class_names: Sequence[str],
) -> Mapping[str, Tensor]:
    """Return the quantity of each distribution, for the jets that count there."""
    names = exit_names(len(logits_ENK))
    probability_NK = logits_ENK[exit_index_N, torch.arange(len(exit_index_N))].softmax(dim=-1)
    answer_N = probability_NK.argmax(dim=-1)
    values = {EXIT: exit_index_N, ANSWER: answer_N, CONFIDENCE: probability_NK.amax(dim=-1)}
    values |= {f"score of {name}": probability_NK[:, index] for index, name in enumerate(class_names)}
    for index, threshold in enumerate(policy.thresholds):
        if threshold < torch.inf:
            reached_N = exit_index_N >= index
            values[f"{policy.score.name} at {names[index]}"] = policy.score(logits_ENK[: index + 1, reached_N])
    return values | {f"{EXIT} of {name}": exit_index_N[answer_N == index] for index, name in enumerate(class_names)}


def _empty(value_N: Tensor, labels: Sequence[str]) -> Distribution:
    if labels:
        edges = np.arange(1, len(labels)) - 0.5
    else:
        quantiles = np.arange(1, _BINS) / _BINS
        edges = np.unique(np.quantile(_rounded(value_N), quantiles)) if len(value_N) else np.empty(0)
    return Distribution(edges=edges.tolist(), counts=[0] * (len(edges) + 1), labels=list(labels))


def _count(empty: Distribution, value_N: Tensor) -> Distribution:
    bin_N = np.searchsorted(empty.edges, _rounded(value_N), side="right")
    return empty.model_copy(update={"counts": np.bincount(bin_N, minlength=len(empty.counts)).tolist()})


def _rounded(value_N: Tensor) -> npt.NDArray[np.float64]:
    rounded_N: npt.NDArray[np.float64] = np.round(np.nan_to_num(value_N.double().cpu().numpy()), _DECIMALS)
    return rounded_N


def _merged(table_2B: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Merge neighbouring bins until each sample expects enough jets in all; no bin is left if a sample is too small."""
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
        return f"the mean jet lies at {after_B @ middle_B:.1%} of the reference (50% where nothing changed)"
    error_B = np.sqrt(before_B / max(1, sum(reference.counts)) + before_B / max(1, sum(observed.counts))) + 1e-12
    largest = np.argsort(-np.abs(after_B - before_B) / error_B)[:_SHOWN]
    moved = [bin_ for bin_ in largest if before_B[bin_] != after_B[bin_]]
    return ", ".join(f"{reference.labels[bin_]} {before_B[bin_]:.2%} → {after_B[bin_]:.2%}" for bin_ in moved)
