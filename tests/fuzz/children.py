"""Runs the real command in children that are forked from a process in which everything is imported."""

import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.fuzz.preloaded"])

LIMIT = 60.0  # seconds; the usual run takes one
_MEMORY = 6 * 2**30  # bytes of address space, so that an absurd claim cannot hurt the machine


@dataclass(frozen=True)
class Run:
    """A command that ended.

    Attributes:
        status: the exit status; negative: the signal that killed it.
        seconds: how long it took.
        hung: whether it was killed because it took too long.
        out: what it wrote to standard output.
        err: what it wrote to standard error.
    """

    status: int
    seconds: float
    hung: bool
    out: str
    err: str


def run(
    arguments: Sequence[str],
    folder: Path,
    wrap: Callable[[Callable[[], int]], int] | None = None,
    *,
    kill_after: float | None = None,
) -> Run:
    """Run ``phaze_ee`` with some arguments in ``folder/scene``.

    Args:
        arguments: of the command line.
        folder: receives the output, beside the scene.
        wrap: called in the child with the command as a function, instead of the command.
        kill_after: the seconds after which it is killed, unless it has ended.
    """
    process = _CONTEXT.Process(target=_child, args=(list(arguments), str(folder), wrap))
    started = time.perf_counter()
    process.start()
    process.join(LIMIT if kill_after is None else kill_after)
    alive = process.exitcode is None
    if alive:
        process.kill()
        process.join()
    status, seconds = process.exitcode, time.perf_counter() - started
    process.close()
    assert status is not None
    out, err = (_text(folder / name) for name in ("out", "err"))
    return Run(status, seconds, alive and kill_after is None, out, err)


def start() -> None:
    """Start the server that children are forked from, which imports everything first."""
    process = _CONTEXT.Process(target=_confine)
    process.start()
    process.join()
    process.close()


def value_of(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function returns in a child; a RuntimeError if it dies or takes too long."""
    here, there = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_send, args=(there, function, arguments))
    process.start()
    there.close()
    try:
        return here.recv() if here.poll(LIMIT) else RuntimeError("it takes too long")
    except EOFError:
        return RuntimeError("it died")
    finally:
        process.kill()
        process.join()
        process.close()
        here.close()


def environment() -> Mapping[str, str]:
    """Return the variables of the children that differ from those of this process."""
    return {"PHAZE_EE_WORKSPACES": "ws", "OMP_NUM_THREADS": "1", "COLUMNS": "80", "PYTHONWARNINGS": ""}


def _send(pipe: Any, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    _confine()
    pipe.send(function(*arguments))


def _confine() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


def _child(arguments: list[str], folder: str, wrap: Any) -> None:
    import torch

    from phaze_ee.cli import main

    torch.set_num_threads(1)
    os.environ.update(environment())
    for descriptor, name in ((1, "out"), (2, "err")):
        file = os.open(Path(folder) / name, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        os.dup2(file, descriptor)
        os.close(file)
    os.chdir(Path(folder) / "scene")
    _confine()
    raise SystemExit(main(arguments) if wrap is None else wrap(lambda: main(arguments)))


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", errors="replace") if path.exists() else ""
