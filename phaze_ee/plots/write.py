"""Drawing figures into files, in several processes where there are many."""

import multiprocessing
import signal
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from phaze_ee.atomic import remove_abandoned
from phaze_ee.errors import RunError
from phaze_ee.machine import core_count
from phaze_ee.plots.style import Drawing, save

# A process takes as long to start as two or three figures take to draw.
_FIGURES_PER_PROCESS = 4


def write_drawings(drawings: Mapping[Path, Drawing]) -> Iterator[list[Path]]:
    """Draw each figure and write it as PNG and PDF; yield the paths of each, in order.

    Args:
        drawings: by the path of the files without a suffix.

    Raises:
        RunError: a file could not be written, or a process that draws died.
    """
    helpers = min(core_count(), len(drawings) // _FIGURES_PER_PROCESS) - 1
    if helpers < 1:
        yield from (_write(drawing, stem) for stem, drawing in drawings.items())
        return
    pool = ProcessPoolExecutor(helpers, _context(), _die_of_interrupts)
    try:
        futures, own = _shared_out(pool, helpers, drawings)
        for stem in drawings:
            yield own[stem] if stem in own else futures[stem].result()
    except BrokenProcessPool as error:
        raise RunError("a process that draws figures died, often for lack of memory; run again") from error
    finally:
        pool.shutdown(cancel_futures=True)
        for folder in {stem.parent for stem in drawings}:
            remove_abandoned(folder)


def _shared_out(
    pool: ProcessPoolExecutor, helpers: int, drawings: Mapping[Path, Drawing]
) -> tuple[dict[Path, Future[list[Path]]], dict[Path, list[Path]]]:
    """Give other processes drawings from the first on, as they finish; write others in this one, from the last on."""
    left = deque(drawings)
    futures: dict[Path, Future[list[Path]]] = {}
    own: dict[Path, list[Path]] = {}
    while left:
        while left and sum(not future.done() for future in futures.values()) <= helpers:
            stem = left.popleft()
            futures[stem] = pool.submit(_write, drawings[stem], stem)
        if left:
            stem = left.pop()
            own[stem] = _write(drawings[stem], stem)
    return futures, own


def _write(drawing: Drawing, stem: Path) -> list[Path]:
    return save(drawing(), stem)


def _context() -> multiprocessing.context.ForkServerContext:
    # Not fork: this process may have threads (torch in mode chain). The server imports what draws before it forks.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["phaze_ee.plots.write"])
    return context


def _die_of_interrupts() -> None:
    """Let Ctrl-C, which all processes of a terminal get, end this one without a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
