"""How far the seeds of a project are, and their current results."""

from collections.abc import Mapping, Sequence
from typing import get_args

from phaze_ee.errors import UsageError
from phaze_ee.evaluation.over_seeds import JudgedSeed, mean_results
from phaze_ee.modes.current import CurrentResults, read_current, read_judged
from phaze_ee.results.seeds import SeedRun, SeedsResults, SeedState
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


def how_far(runs: Sequence[SeedRun]) -> str:
    """Return in words how many seeds are evaluated, trained and waiting."""
    states: tuple[SeedState, ...] = get_args(SeedState)
    counts = {state: sum(run.state == state for run in runs) for state in reversed(states)}
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count)


def read_means(project: Project, policy: str | None = None) -> CurrentResults:
    """Return the current results of a project; if it was run with several seeds, their means.

    Seeds that are not both evaluated and benchmarked are left out.

    Args:
        project: the project.
        policy: the name of the policy; None: the active one.

    Raises:
        UsageError: results are missing or unreadable, or those of the seeds do not belong together, or there is no such
            policy.
    """
    seeds = known_seeds(project)
    if not seeds:
        return read_current(project, policy)
    found, left_out = [], []
    for seed in seeds:
        try:
            found.append(read_current(seed_project(project, seed), policy))
        except UsageError as error:
            left_out.append(f"Left out: seed {seed} of {project}: {error}")
    if not found:
        raise UsageError(left_out[0].removeprefix("Left out: "))
    own = [line for current in found for line in current.left_out]
    return CurrentResults(
        project, mean_results(project.name, [current.static for current in found]), left_out=[*left_out, *own]
    )


def _run(project: Project, seed: int, failure: str | None) -> SeedRun:
    state, error = _state(project)
    return SeedRun(seed=seed, project=project.name, state=state, error=failure or error)


def _state(project: Project) -> tuple[SeedState, str | None]:
    """Return how far a seed is, and why results that it has do not count."""
    if not project.best_model.is_file() or project.resume_point.is_file():
        return "waiting", None
    if not project.evaluation_results.is_file():
        return "trained", None
    try:
        read_judged(project)
    except UsageError as error:
        return "trained", str(error)
    return "evaluated", None
