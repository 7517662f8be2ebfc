"""Generation of files in parallel processes. Each file is an independent and reproducible task."""

import json
import logging
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from queue import Empty
from typing import Any, Protocol

from phaze_ee.atomic import remove_abandoned, replacing
from phaze_ee.errors import UsageError
from phaze_ee.generate.options import GeneratorOptions, Progress
from phaze_ee.generate.processes import PROCESSES
from phaze_ee.installation import extra_command

RECORD = "generation.json"
_LIBRARY = ".underlying_events.npz"
_LIBRARY_STREAM = 1_000
_POLL_SECONDS = 0.2
_log = logging.getLogger(__name__)


class Counter(Protocol):
    """A queue for the numbers of new jets."""

    def put(self, item: int, /) -> None: ...


@dataclass(frozen=True)
class FileTask:
    """One file to generate. Its jets depend only on seed, class, index, number of jets, mode and Pythia's settings."""

    path: Path
    stem: str
    index: int
    jets: int
    seed: int
    library: Path | None
    vertices: bool = False
    pythia: tuple[str, ...] = ()

    @property
    def entropy(self) -> tuple[int, int, int]:
        return (self.seed, list(PROCESSES).index(self.stem), self.index)


def generate_files(options: GeneratorOptions, report: Callable[[Progress], None]) -> list[Path]:
    """Generate JetClass-like jets as ROOT files named ``<class>_<index>.root``, and a record of how they were made.

    Each file is written whole or not at all. The jets do not depend on the number of worker processes.

    Args:
        options: what to generate.
        report: called before the first jet, and whenever jets are done.

    Returns:
        The files, by class and index.

    Raises:
        UsageError: Pythia8 or FastJet is not installed, Pythia8 refuses a setting, the folder is a file, a file exists
            and ``options.overwrite`` is off, or the record in the folder cannot be read.
        RunError: Pythia8 fails to start, or a file cannot be written.
    """
    require_generator()
    check_settings(options.pythia)
    tasks = plan(options)
    refuse_file(options.output)
    refuse_existing(tasks, options.overwrite)
    remove_abandoned(options.output)
    earlier = _recorded_files(options.output / RECORD)
    report(Progress(0, sum(task.jets for task in tasks)))
    with _underlying_events(options):
        _run(tasks, options.workers, report)
    _record(options, tasks, earlier)
    return [task.path for task in tasks]


def require_generator() -> None:
    """Raise UsageError, with the command that installs them, unless Pythia8 and FastJet are installed."""
    missing = [name for name in ("pythia8mc", "fastjet") if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"generating jets needs {' and '.join(missing)}, which this environment lacks; "
            f"install them, {extra_command('generate')}"
        )


def check_settings(settings: Sequence[str]) -> None:
    """Raise UsageError if Pythia8 does not know a setting, or refuses its value."""
    import pythia8mc

    instance = pythia8mc.Pythia("", False)
    instance.readString("Print:quiet = on")
    for setting in settings:
        if not instance.readString(setting):
            raise UsageError(
                f"generate: Pythia8 refuses --pythia {setting!r}; write Name:of = value as in its manual, for example "
                "'TimeShower:alphaSvalue = 0.16'"
            )


def plan(options: GeneratorOptions) -> list[FileTask]:
    """Return one task per file, by class and index."""
    library = options.output / _LIBRARY if options.mode == "fast" else None
    starts = range(0, options.jets_per_class, options.jets_per_file)
    return [
        FileTask(
            path=options.output / f"{stem}_{index:03d}.root",
            stem=stem,
            index=index,
            jets=min(options.jets_per_file, options.jets_per_class - start),
            seed=options.seed,
            library=library,
            vertices=options.vertices,
            pythia=options.pythia,
        )
        for stem in options.classes
        for index, start in enumerate(starts)
    ]


def refuse_file(output: Path) -> None:
    """Raise UsageError if the folder of the files is a file, or lies in one."""
    file = next((path for path in (output, *output.parents) if path.is_file()), None)
    if file is not None:
        raise UsageError(f"generate: {file} is a file; choose another --output")


def refuse_existing(tasks: list[FileTask], overwrite: bool) -> None:
    """Raise UsageError if a file of ``tasks`` exists and may not be overwritten."""
    existing = [task.path for task in tasks if task.path.exists()]
    if existing and not overwrite:
        others = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise UsageError(f"{existing[0]}{others} exists; choose another --output, or give --overwrite to replace it")


@contextmanager
def _underlying_events(options: GeneratorOptions) -> Iterator[None]:
    """Provide the library of underlying events for the tasks of the fast mode while they run."""
    if options.mode != "fast":
        yield
        return
    import numpy as np

    from phaze_ee.generate.underlying_event import LIBRARY_EVENTS, build_library

    _log.info("collecting underlying events to overlay")
    path = options.output / _LIBRARY
    build_library(np.random.SeedSequence((options.seed, _LIBRARY_STREAM)), LIBRARY_EVENTS, options.pythia).save(path)
    try:
        yield
    finally:
        path.unlink()


def _run(tasks: list[FileTask], workers: int, report: Callable[[Progress], None]) -> None:
    total = sum(task.jets for task in tasks)
    if workers == 1:
        _run_here(tasks, total, report)
        return
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(min(workers, len(tasks)), mp_context=context) as pool:
        counter = manager.Queue()
        futures = {pool.submit(run_task, task, counter) for task in tasks}
        try:
            _follow(futures, counter, total, report)
        finally:
            pool.shutdown(cancel_futures=True)  # after a failure, no more tasks are started


def _run_here(tasks: list[FileTask], total: int, report: Callable[[Progress], None]) -> None:
    done = 0

    class Relay:
        def put(self, jets: int, /) -> None:
            nonlocal done
            done += jets
            report(Progress(done, total))

    for task in tasks:
        run_task(task, Relay())


def _follow(futures: set[Future[None]], counter: Any, total: int, report: Callable[[Progress], None]) -> None:
    """Report progress until all tasks are done; raise the error of the first that fails."""
    jets = 0
    pending = futures
    while pending:
        finished, pending = wait(pending, timeout=_POLL_SECONDS)
        for future in finished:
            future.result()
        jets += sum(_drain(counter))
        report(Progress(jets, total))


def _drain(counter: Any) -> Iterator[int]:
    while True:
        try:
            yield counter.get_nowait()
        except Empty:
            return


def run_task(task: FileTask, counter: Counter) -> None:
    """Generate and write one file."""
    import numpy as np

    from phaze_ee.generate.sample import generate_sample
    from phaze_ee.generate.underlying_event import Library
    from phaze_ee.generate.write import write_sample

    process = PROCESSES[task.stem]
    library = Library.load(task.library) if task.library else None
    seed = np.random.SeedSequence(task.entropy)
    sample = generate_sample(process, task.jets, seed, library, counter.put, task.pythia)
    write_sample(task.path, process.label, sample, vertices=task.vertices)


def _record(options: GeneratorOptions, tasks: list[FileTask], earlier: dict[str, Any]) -> None:
    """Write a record of how the files were made; entries of other files in the folder are kept."""
    how = {
        "command": options.command,
        "mode": options.mode,
        "seed": options.seed,
        "versions": {name: version(name) for name in ("phaze-ee", "pythia8mc", "fastjet", "numpy")},
    }
    made = {task.path.name: {"jets": task.jets, "index": task.index, **how} for task in tasks}
    with replacing(options.output / RECORD) as temporary:
        temporary.write_text(json.dumps({"files": earlier | made}, indent=2) + "\n", encoding="utf-8")


def _recorded_files(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["files"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(
            f"{path} is not a record of generated files ({error!r}); move it away and run again"
        ) from error
