"""``drift.json``: whether predicted jets differ from the calibration jets of a policy, tested at all times together."""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Self, final

import numpy as np
import numpy.typing as npt
from pydantic import Field

from phaze_ee.errors import UsageError
from phaze_ee.exits.drift import ANSWER, EXIT, Distribution, DriftReference, of_exits
from phaze_ee.exits.evidence import DriftEvidence
from phaze_ee.exits.observables import OBSERVABLES
from phaze_ee.prediction.writers import InputFile, Manifest
from phaze_ee.results.base import Record, ResultsFile
from phaze_ee.shapes import Int
from phaze_ee.stats import ChiSquare, chi_square

# Bins are merged until this many jets are expected in each, in both samples. With fewer, the chi-square distribution is
# a poor approximation.
_LEAST_EXPECTED = 10
_SHOWN = 3


class DriftTest(Record):
    """The tests of one distribution.

    Attributes:
        name: of the distribution.
        chi_square: Pearson's, of all jets so far against the reference.
        degrees_of_freedom: its degrees of freedom; 0 if there are too few jets.
        p_value: its p-value, which is valid for one look at a time that was fixed before. No alarm rests on it.
        alarm: whether the evidence has ever reached 1 / ``share``. It stays.
        change: what changed, in words.
        share: the part of the significance that this distribution has.
        evidence: the capital of the bets now, as its decimal logarithm.
        largest: the largest so far.
    """

    name: str
    chi_square: float
    degrees_of_freedom: int
    p_value: float
    alarm: bool
    change: str
    share: float = 0.0
    evidence: float = 0.0
    largest: float = 0.0


@final
class DriftReport(ResultsFile):
    """``drift.json``: the tests, the histograms of the observed jets, and what the next files are added to.

    Attributes:
        significance: the probability of any alarm, at all looks together, if nothing changed.
        reference_jets: the calibration jets.
        jets: the jets of all files.
        tests: one for each distribution.
        observed: the histograms of these jets.
        reference: the hash of the reference; None in files of older versions, to which nothing is added.
        files: the files, in the order in which they came.
        state: the evidence.
    """

    significance: float
    reference_jets: int
    jets: int
    tests: list[DriftTest]
    observed: DriftReference
    reference: str | None = None
    files: list[InputFile] = Field(default_factory=list)
    state: DriftEvidence | None = None

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
        return ANSWER in names and not any(of_exits(name) and name != EXIT for name in names)

    def having(self, reference: DriftReference, manifests: Sequence[Manifest], significance: float) -> Self:
        """Return the report with further files; those that were seen before count once.

        The new files are one block of jets. Files that come together are often sorted, by class for example, and their
        order says nothing about the time when the jets were taken.

        Args:
            reference: what the report began with.
            manifests: of the files, which were monitored.
            significance: the probability of any alarm.

        Raises:
            UsageError: the jets of a file were counted in other bins.
        """
        assert self.state is not None
        state, observed = self.state, self.observed
        counted = {own.input: own.drift for own in manifests if own.drift is not None}
        new = {file: drift for file, drift in counted.items() if file not in self.files}
        for file, drift in new.items():
            if drift.edges != reference.edges:
                raise UsageError(
                    f"the predictions for {file.path} have other histograms than the policy; run again with --overwrite"
                )
        if new:
            block = sum(new.values(), start=reference.empty)
            names = (f"{Path(file.path).name}/{file.size}" for file in new)
            state, observed = state.having(block, "/".join(names)), observed + block
        return self.model_copy(
            update={
                "significance": significance,
                "jets": observed.jets,
                "tests": judged(reference, observed, state, significance),
                "observed": observed,
                "files": [*self.files, *new],
                "state": state,
            }
        )


def no_jets_yet(reference: DriftReference) -> DriftReport:
    """Return the report before the first file."""
    return DriftReport(
        significance=1.0,
        reference_jets=reference.jets,
        jets=0,
        tests=[],
        observed=reference.empty,
        reference=reference_hash(reference),
        state=DriftEvidence.begin(reference),
    )


def earlier_report(path: Path, reference: DriftReference, *, replace: bool) -> tuple[DriftReport, bool]:
    """Return the report to which files are added, and whether it replaces one that cannot go on.

    A report of an older version had one look, and is replaced.

    Args:
        path: ``drift.json``.
        reference: the histograms of the calibration jets.
        replace: begin anew if the report compares with others.

    Raises:
        UsageError: it is damaged, or compares with others.
    """
    if not path.exists():
        return no_jets_yet(reference), False
    damaged = f"{path} is damaged, and was kept; move it away, then run again: predictions that are done stay"
    try:
        report = DriftReport.read(path, made_by="predict")
    except UsageError as error:
        raise UsageError(damaged) from error
    if report.reference is None or (replace and report.reference != reference_hash(reference)):
        return no_jets_yet(reference), True
    if report.reference != reference_hash(reference):
        raise UsageError(
            f"{path} compares with the calibration jets of another policy; choose another --output, or move it away"
        )
    if not _adds_up(report, reference):
        raise UsageError(damaged)
    return report, False


def _adds_up(report: DriftReport, reference: DriftReference) -> bool:
    """Return whether a report has the histograms of its reference."""
    tallies = {} if report.state is None else report.state.now.tallies
    bins = {name: len(own.counts) for name, own in reference.distributions.items()}
    added = {name: len(tally.counts) for name, tally in tallies.items()}
    return report.observed.edges == reference.edges and added == bins


def reference_hash(reference: DriftReference) -> str:
    """Return the SHA-256 of the histograms of a reference."""
    return hashlib.sha256(reference.model_dump_json(include={"distributions"}).encode()).hexdigest()


def judged(
    reference: DriftReference, observed: DriftReference, state: DriftEvidence, significance: float
) -> list[DriftTest]:
    """Return the tests of all distributions. The inputs share a half of the significance, if they are tested at all.

    Args:
        reference: counts of the calibration jets.
        observed: counts of all other jets so far.
        state: the evidence of these.
        significance: the sum of the shares of all tests.
    """
    inputs = sum(name in OBSERVABLES for name in reference.distributions)
    others = len(reference.distributions) - inputs
    tests = []
    for name, own in reference.distributions.items():
        table = _merged(np.array([own.counts, observed.distributions[name].counts]))
        once = chi_square(table) if table.shape[1] > 1 else ChiSquare(0.0, 0, 1.0)
        part = 1.0 if not inputs else 0.5
        share = significance * part / (inputs if name in OBSERVABLES else others)
        tests.append(
            DriftTest(
                name=name,
                chi_square=once.statistic,
                degrees_of_freedom=once.degrees_of_freedom,
                p_value=once.p_value,
                alarm=state.largest[name] >= -math.log10(share),
                change=_change(own, observed.distributions[name]),
                share=share,
                evidence=state.evidence[name],
                largest=state.largest[name],
            )
        )
    return tests


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
