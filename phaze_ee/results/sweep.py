"""Typed results of a sweep: what was varied, and how each trial did."""

from typing import Literal

from phaze_ee.results.base import Record, ResultsFile


class SweptOption(Record):
    """An option that was varied, as ``--set`` gave it; ``log`` is None for choices."""

    values: str
    log: bool | None


class SweepTrial(Record):
    """One trial. ``values`` are numbers of a range, and choices as they were written.

    ``objective`` is None unless the trial is complete, ``error`` unless it failed. A trial is ``running`` while a
    process works on it, and after a process died until the sweep is started again.
    """

    project: str
    state: Literal["complete", "failed", "running"]
    values: dict[str, int | float | str]
    objective: float | None = None
    error: str | None = None


class SweepResults(ResultsFile):
    """``sweep_results.json``: trials in the order in which they were drawn.

    ``objective`` says what is to be large: ``full_model``, ``exits``, or a number of MACs, see
    :mod:`phaze_ee.sweep.objective`.
    """

    project: str
    study: str
    objective: str
    space: dict[str, SweptOption]
    trials: list[SweepTrial]

    @property
    def ranked(self) -> list[SweepTrial]:
        """Complete trials, the best first (of equal ones the earlier), then the others."""
        return sorted(self.trials, key=lambda trial: float("inf") if trial.objective is None else -trial.objective)
