"""Conditional promises: the parts of the jets in each of which a risk must stay below its limit as well."""

import itertools
from collections.abc import Sequence
from typing import final

import numpy as np
import numpy.typing as npt
from pydantic import Field

from phaze_ee.config.bins import Edges
from phaze_ee.errors import DataError, UsageError
from phaze_ee.exits.answers import Answers
from phaze_ee.exits.targets import Budget, Risk, SignalEfficiency, Target
from phaze_ee.names import MULTIPLICITY, class_title, quantity, short
from phaze_ee.results.base import Record
from phaze_ee.shapes import Bool, Float


@final
class Conditions(Record):
    """For which parts of the jets a promise is made, beside the one for all of them.

    Attributes:
        per_class: in each true class.
        bins: in each bin [edge, next edge) of these observables. Jets outside the edges are in no bin.
        leaving: the risk is that of the jets that leave early, among these alone; in every part as well.
    """

    per_class: bool = False
    bins: dict[str, Edges] = Field(default_factory=dict)
    leaving: bool = False

    @property
    def divide(self) -> bool:
        """Whether there are parts."""
        return self.per_class or bool(self.bins)

    def check(self, target: Target) -> None:
        """Check that the target can be promised under these conditions.

        Raises:
            UsageError: it cannot.
        """
        if (self.divide or self.leaving) and isinstance(target, Budget):
            raise UsageError("exit_target = 'budget' promises nothing, so no part of the jets has a promise of its own")
        if isinstance(target, SignalEfficiency) and (self.per_class or self.leaving):
            option = "promise_per_class" if self.per_class else "promise_leaving"
            raise UsageError(
                f"{option} does not suit exit_target = 'signal_efficiency', whose risks are of one class each, and "
                "which loses the signal that leaves: use promise_bins"
            )

    def risks(self, risks: Sequence[Risk], answers: Answers) -> list[Risk]:
        """Return the risks for all jets, and then those in each part.

        Raises:
            DataError: an observable is unknown, or so is a true class that is needed.
        """
        whole = [risk.of_leaving() if self.leaving else risk for risk in risks]
        parts = self._parts(answers).items()
        return [*whole, *(risk.within(name, part_N) for name, part_N in parts for risk in whole)]

    def _parts(self, answers: Answers) -> dict[str, Bool[np.ndarray, " N"]]:
        parts = {}
        if self.per_class:
            if not answers.labelled:
                raise DataError("a promise for each class needs the true classes, which some jets lack")
            parts = {class_title(name): answers.of_class(name) for name in answers.class_names}
        for name, edges in self.bins.items():
            value_N = observable(answers, name)
            parts |= {
                bin_title(name, low, high): (value_N >= low) & (value_N < high)
                for low, high in itertools.pairwise(edges)
            }
        return parts

    def __str__(self) -> str:
        """In words: the parts of the jets."""
        parts = ["each class"] if self.per_class else []
        parts += [
            f"{quantity(len(edges) - 1, 'bin')} of {name} ({', '.join(map(short, edges))})"
            for name, edges in self.bins.items()
        ]
        return " and ".join(parts)


ALL_JETS = Conditions()


@final
class Untested(Record):
    """A part of the jets with too few that test the policy, so that nothing is promised there.

    ``name`` is that of the risk in the part. ``jets`` of those that test the policy count there, and ``needed`` would
    do: then the test passes if a quarter of what is allowed is lost. With the same fractions this takes ``more_jets``
    more calibration jets; None if there is no jet to tell a fraction from.
    """

    name: str
    part: str
    jets: int
    needed: int
    more_jets: int | None

    def __str__(self) -> str:
        return f"{self.part} ({self.jets:,} of {self.needed:,} jets)"


def bin_title(name: str, low: float, high: float) -> str:
    """Return a bin as ``jet_pt 500 to 600``."""
    return f"{name} {short(low)} to {short(high)}"


def observable(answers: Answers, name: str) -> Float[np.ndarray, " N"]:
    """Return an observer as float64; without one for the multiplicity, the number of particles that the network saw.

    Raises:
        DataError: there is no such observer.
    """
    columns = {MULTIPLICITY: answers.particle_count_N, **answers.observers}
    if name not in columns:
        raise DataError(f"the jets have no {name!r}; there are {', '.join(columns)}: change promise_bins (--bins)")
    value_N: npt.NDArray[np.float64] = columns[name].astype(np.float64)
    return value_N


def promised(target: Target, conditions: Conditions, untested: Sequence[Untested], answers: Answers) -> list[Risk]:
    """Return the risks that a policy with these conditions promises to limit, without those that were not tested."""
    left_out = {part.name for part in untested}
    return [risk for risk in conditions.risks(target.risks(answers), answers) if risk.name not in left_out]
