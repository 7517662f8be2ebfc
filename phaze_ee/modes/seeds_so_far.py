"""How far the seeds of a project are, and their current results."""

from collections.abc import Mapping, Sequence

from phaze_ee.errors import UsageError
from phaze_ee.evaluation.over_seeds import JudgedSeed
from phaze_ee.modes.current import read_judged
from phaze_ee.results.seeds import SeedRun, SeedsResults
from phaze_ee.sweep.trial_project import seed_project
from phaze_ee.workspace import Project


def seed_runs(base: Project, seeds: Sequence[int], failed: Mapping[int, str] | None = None) -> list[SeedRun]:
    """Return how far each seed is.

    Args:
        base: the project.
        seeds: its seeds.
        failed: the errors of those that failed in this command.
    """
    return [_run(seed_project(base, seed), seed, (failed or {}).get(seed)) for seed in seeds]


def judged_seeds(base: Project, runs: Sequence[SeedRun]) -> list[JudgedSeed]:
    """Return the current results of the seeds that are evaluated.

    Raises:
        UsageError: a file has changed since.
    """
    return [JudgedSeed(*read_judged(seed_project(base, run.seed))) for run in runs if run.state == "evaluated"]


def known_seeds(base: Project) -> list[int]:
    """Return the seeds with which a project was run; none if it was not run with several.

    Raises:
        UsageError: the file that lists them cannot be read.
    """
    if not base.seeds_results.is_file():
        return []
    return [run.seed for run in SeedsResults.read(base.seeds_results, made_by="train").runs]


def _run(project: Project, seed: int, failure: str | None) -> SeedRun:
    if failure is not None:
        return SeedRun(seed=seed, project=project.name, state="failed", error=failure)
    if not project.best_model.is_file() or project.resume_point.is_file():
        return SeedRun(seed=seed, project=project.name, state="waiting")
    if not project.evaluation_results.is_file():
        return SeedRun(seed=seed, project=project.name, state="trained")
    try:
        read_judged(project)
    except UsageError as error:
        return SeedRun(seed=seed, project=project.name, state="trained", error=str(error))
    return SeedRun(seed=seed, project=project.name, state="evaluated")
