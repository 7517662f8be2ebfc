"""Threads that work on different chunks of jets, and share a chunk when there are no others."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, final

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")


@final
class ThreadTeam:
    """Threads for inference, each of which uses one thread inside torch.

    The threads inside torch wait for each other at every operation, which is much slower.

    Args:
        threads: number of threads.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pools: dict[int, ThreadPoolExecutor] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.threads,)

    @property
    def _pool(self) -> ThreadPoolExecutor:
        """The threads, kept between calls with the memory and the settings that each has inside torch.

        They are those of this process: a process that was forked has none of the threads of its parent.
        """
        process = os.getpid()
        if process not in self._pools:
            own = ThreadPoolExecutor(self.threads, initializer=torch.set_num_threads, initargs=(1,))
            self._pools.setdefault(process, own)
        return self._pools[process]

    def map(self, run: Callable[..., Result], *columns: Sequence[Any]) -> list[Result]:
        """Return the results of ``run`` for each row of the columns. ``run`` may call :func:`share`."""
        with _torch_threads(1):
            if self.threads == 1 or len(columns[0]) == 1:
                return list(map(self._working(run), *columns))
            return list(self._pool.map(self._working(run), *columns))

    def _working(self, run: Callable[..., Result]) -> Callable[..., Result]:
        @torch.inference_mode()
        def work(*row: Any) -> Result:
            token = _team.set(self)
            try:
                return run(*row)
            finally:
                _team.reset(token)

        return work

    def share(self, parts: Sequence[Part], work: Callable[[Iterator[Part]], None]) -> None:
        """Share the parts among the threads, see the function :func:`share`."""
        shared = iter(parts)  # yields each part once, to whichever thread asks
        job = [work]
        # They are in the queue after whole chunks: a thread helps when there is no other chunk to begin.
        helpers = [self._pool.submit(_help, job, shared) for _ in range(min(self.threads, len(parts)) - 1)]
        work(shared)
        for helper in helpers:
            if not helper.cancel():
                helper.result()
        job.clear()  # a cancelled helper stays in the queue, and would keep the memory of the work


@torch.inference_mode()
def _help(job: list[Callable[[Iterator[Part]], None]], shared: Iterator[Part]) -> None:
    for work in job:
        work(shared)


_team: ContextVar[ThreadTeam | None] = ContextVar("team", default=None)


def share(parts: Sequence[Part], work: Callable[[Iterator[Part]], None]) -> None:
    """Work on the parts of one chunk, together with idle threads of the team that runs this thread.

    Args:
        parts: the parts.
        work: works on the parts that an iterator yields. It may run in several threads, which share the iterator.
    """
    team = _team.get()
    if team is None or len(parts) == 1:
        work(iter(parts))
    else:
        team.share(parts, work)


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
