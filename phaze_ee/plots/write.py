"""Drawing figures into files, in several processes where there are many."""

import multiprocessing
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

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
    pool = ProcessPoolExecutor(helpers, _context(), _ignore_interrupts)
    try:
        futures = {stem: pool.submit(_write, drawing, stem) for stem, drawing in drawings.items()}
        # This process draws from the end what no other has begun.
        own = {stem: _write(drawings[stem], stem) for stem in reversed(futures) if futures[stem].cancel()}
        for stem, future in futures.items():
            yield own[stem] if stem in own else future.result()
    except BrokenProcessPool as error:
        raise RunError("a process that draws figures died, often for lack of memory; run again") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _write(drawing: Drawing, stem: Path) -> list[Path]:
    return save(drawing(), stem)


def _context() -> multiprocessing.context.ForkServerContext:
    # Not fork: this process may have threads (torch in mode chain). The server imports what draws before it forks.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["phaze_ee.plots.write"])
    return context


def _ignore_interrupts() -> None:
    """Leave Ctrl-C, which all processes of a terminal get, to the process that started this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
