"""Results of a sweep: the varied options and the trials."""

from typing import Literal

from phaze_ee.results.base import Record, ResultsFile


class SweptOption(Record):
    """A varied option as ``--set`` gave it. ``log``: a logarithmic range; None for choices."""

    values: str
    log: bool | None


class SweepTrial(Record):
    """One trial. ``values`` are numbers of a range, and choices as they were written.

    ``objective`` is set if the trial is complete, ``error`` if it failed. A trial whose process died stays ``running``
    until the sweep is started again.
    """

    project: str
    state: Literal["complete", "failed", "running"]
    values: dict[str, int | float | str]
    objective: float | None = None
    error: str | None = None


class SweepResults(ResultsFile):
    """``sweep_results.json``: trials in the order in which they were drawn.

    ``objective`` is what the sweep maximises: ``full_model``, ``exits``, or a number of MACs
    (:mod:`phaze_ee.sweep.objective`).
    """

    project: str
    study: str
    objective: str
    space: dict[str, SweptOption]
    trials: list[SweepTrial]

    @property
    def ranked(self) -> list[SweepTrial]:
        """Complete trials, the best first (the earlier one of equals), then all other trials."""
        return sorted(self.trials, key=lambda trial: float("inf") if trial.objective is None else -trial.objective)
