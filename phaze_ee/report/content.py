"""What a report is made from: the results of one project, and texts about it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from phaze_ee.names import quantity
from phaze_ee.results.ood import OODResults
from phaze_ee.results.placement import PlacementResults
from phaze_ee.results.project import ProjectResults
from phaze_ee.results.seeds import SeedRun, SeedsResults
from phaze_ee.results.training import TrainingHistory


@final
@dataclass(frozen=True)
class Promise:
    """The promise of the policy that the report shows.

    Attributes:
        statement: the promise in words.
        holds: whether it was tested and passed.
        target: the kind of target.
        testing: the number of calibration jets that tested the policy.
        shaping: the number of those that chose it. With a budget they are the same jets.
        tested: False: the target promises nothing, so no jet tested the policy.
        confidence: of the promise; None if it has none.
    """

    statement: str
    holds: bool
    target: str
    testing: int
    shaping: int
    tested: bool = True
    confidence: float | None = None

    @property
    def sample(self) -> str:
        """What the calibration jets were used for, in words."""
        if not self.tested:
            return f"{quantity(self.shaping, 'calibration jet')} chose the policy; no jet tested it"
        return f"{quantity(self.testing, 'calibration jet')} tested the policy; {self.shaping:,} others chose it"


@final
@dataclass(frozen=True)
class OneSeed:
    """A seed of a project.

    Attributes:
        run: its number, its project, and how far it is.
        report: the command line that makes its own report.
        results: its evaluation, benchmark and policy; None if it has not all of them.
        promise: of its policy; None without one.
    """

    run: SeedRun
    report: str
    results: ProjectResults | None = None
    promise: Promise | None = None


@final
@dataclass(frozen=True)
class Content:
    """The content of a project's report. What is None has not been made, or is of another model.

    Attributes:
        title: the project.
        command: returns the command line that runs a mode on the project.
        results: evaluation, benchmark and the policy on test jets.
        promise: of the policy.
        ood: how well exits notice out-of-distribution jets.
        placement: of mode place.
        history: of the training.
        card: the model card of the export, in Markdown.
        configuration: the text of the project's configuration.
        left_out: what is left out, and why.
        over_seeds: means and spreads of a project that was run with several seeds; ``results`` are then the means.
        seeds: its seeds.
    """

    title: str
    command: Callable[[str], str]
    results: ProjectResults | None = None
    promise: Promise | None = None
    ood: OODResults | None = None
    placement: PlacementResults | None = None
    history: TrainingHistory | None = None
    card: str | None = None
    configuration: str = ""
    left_out: Sequence[str] = ()
    over_seeds: SeedsResults | None = None
    seeds: Sequence[OneSeed] = ()
