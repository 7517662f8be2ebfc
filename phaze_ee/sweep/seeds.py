"""The seeds of a project: each is a project of its own, on which the same command line runs.

What a seed has completed is recorded in ``output/seeds/seedN.json`` of the base project, with a stamp of what it rests
on. So a command that is given again does what is missing, and what has changed since.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from phaze_ee.atomic import replacing
from phaze_ee.errors import UsageError
from phaze_ee.sweep.claim import Claim
from phaze_ee.sweep.fleet import Event, Job, run_jobs
from phaze_ee.sweep.process import ProjectProcess
from phaze_ee.workspace import Project, file_hash

SEEDS_LOG = "seeds.log"
_TRAINED_ON = "data_config of the training"


@dataclass(frozen=True)
class SeedTask:
    """A command line for one seed.

    Attributes:
        seed: the seed.
        project: its project.
        arguments: what is left to do of the command line; empty: nothing. It is asked for under the seed's lock.
        busy: called if another command works on the seed, which is then left out.
    """

    seed: int
    project: Project
    arguments: Callable[[], Sequence[str]]
    busy: Callable[[], None]


def run_seeds(
    folder: Path, tasks: Sequence[SeedTask], key: str, stamp: Callable[[Project], str], workers: int
) -> Iterator[Event]:
    """Run a command line for each seed, ``workers`` at once; yield each seed as it ends, if there was anything to do.

    Args:
        folder: of locks and records.
        tasks: one for each seed.
        key: the command line in words, the same for all seeds.
        stamp: a hash of what the results of a seed rest on.
        workers: how many run at once.

    Raises:
        RunError: Ctrl-C was pressed.
        PreemptedError: a batch system has stopped this process or one of the others.
        UsageError: another project has the name of a seed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return run_jobs(_Seeds(folder, tasks, key, stamp), workers)


def trained_on(folder: Path, seed: int) -> str | None:
    """Return the hash of the data configuration with which a seed was trained; None if it is not recorded."""
    found = _read(_record(folder, seed)).get(_TRAINED_ON)
    return found if isinstance(found, str) else None


def note_training(folder: Path, seed: int, data_hash: str) -> None:
    """Record with which data configuration a seed is trained."""
    _write(_record(folder, seed), {_TRAINED_ON: data_hash})


def is_complete(folder: Path, seed: int, project: Project, key: str, stamp: str) -> bool:
    """Return whether a seed has completed a command line, nothing has changed since, and its files are all there."""
    done = _read(_record(folder, seed)).get(key)
    if not isinstance(done, dict) or done.get("stamp") != stamp:
        return False
    return all((project.root / name).is_file() for name in done.get("files", ()))


def stamp_of(project: Project, others: Iterable[object]) -> str:
    """Return a hash of a project's configuration, model and active policy, and of other things by their text."""
    hashes = (file_hash(project.config), project.model_hash, file_hash(project.exit_policy))
    return hashlib.sha256(json.dumps([*hashes, *map(str, others)]).encode()).hexdigest()


@final
class _Seeds:
    def __init__(self, folder: Path, tasks: Sequence[SeedTask], key: str, stamp: Callable[[Project], str]) -> None:
        self._folder, self._key, self._stamp = folder, key, stamp
        self._left = list(tasks)
        self._seeds = {task.project: task.seed for task in tasks}

    def next_job(self) -> Job | None:
        while self._left:
            task = self._left.pop(0)
            claim = Claim.take(self._folder / f"seed{task.seed}.lock")
            if claim is None:
                task.busy()
                continue
            arguments = list(task.arguments())
            if arguments:
                return Job(task.project, arguments, claim, SEEDS_LOG)
            claim.release()
        return None

    def finish(self, job: Job, process: ProjectProcess) -> Event:
        succeeded = process.status == 0
        if succeeded:
            self._note(job.project)
        job.claim.release()
        return Event(job.project, succeeded, refused=process.status == UsageError.exit_status)

    def _note(self, project: Project) -> None:
        """Record that a seed has completed the command line."""
        path = _record(self._folder, self._seeds[project])
        found = sorted(str(one.relative_to(project.root)) for one in project.results.glob("*.json"))
        _write(path, {self._key: {"stamp": self._stamp(project), "files": found}})


def _record(folder: Path, seed: int) -> Path:
    return folder / f"seed{seed}.json"


def _write(path: Path, changes: Mapping[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({**_read(path), **changes}, indent=2) + "\n", encoding="utf-8")


def _read(path: Path) -> Mapping[str, Any]:
    """Return what a seed has completed; nothing if the file is missing or damaged: then it is done again."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
