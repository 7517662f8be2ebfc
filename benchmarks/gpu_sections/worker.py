"""Runs sections in a process of its own, so that one that hangs or breaks the card can be ended.

The worker writes a JSON line at each begin of a section and for each row. The parent adds a row with the reason where a
section is too slow, or where its process ends, and starts another process for the sections that are left.
"""

import argparse
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from benchmarks.gpu_sections.rows import MORE_SECTIONS, SECTIONS, TOTAL, Row, row_from

_BEGIN = "begin"
_START = 60  # seconds that a process may take to import torch and to find the card


def collect(
    program: Sequence[str], sections: Sequence[str], show: Callable[[Row], None], seconds: float = TOTAL
) -> None:
    """Run sections, each within its time, all within some seconds.

    Args:
        program: a command that runs the sections named after it, as :func:`work` does.
        sections: names of :data:`SECTIONS` and :data:`MORE_SECTIONS`.
        show: called with each row as soon as it is there.
        seconds: for all of them.
    """
    end, left = time.monotonic() + seconds, list(sections)
    while left:
        if time.monotonic() >= end:
            for section in left:
                show(Row(section, "", "", error=f"not run: {seconds:g} s were over"))
            return
        left = _one_process(program, left, end, show)


def _one_process(program: Sequence[str], sections: list[str], end: float, show: Callable[[Row], None]) -> list[str]:
    """Run sections in one process until one fails; return those that are left."""
    with TemporaryFile("w+", encoding="utf-8", errors="replace") as messages:
        process = subprocess.Popen(
            [*program, *sections], stdout=subprocess.PIPE, stderr=messages, text=True, start_new_session=True
        )
        assert process.stdout is not None
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        reader = threading.Thread(target=_read, args=(process.stdout, lines), daemon=True)
        reader.start()
        left, limit, deadline = list(sections), _START, min(end, time.monotonic() + _START)
        try:
            while True:
                line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
                if not line:
                    break
                values = json.loads(line)
                if _BEGIN in values:
                    left = sections[sections.index(values[_BEGIN]) + 1 :]
                    limit = (SECTIONS | MORE_SECTIONS)[values[_BEGIN]]
                    deadline = min(end, time.monotonic() + limit)
                else:
                    show(row_from(values))
        except queue.Empty:
            over = "all the time was used" if deadline == end else f"{limit} s were over"
            why = f"stopped, because {over}; rows after this one are missing"
        else:
            why = "" if process.wait() == 0 else f"the process ended with {process.returncode}: {_last(messages)}"
        finally:
            _end(process)
            reader.join()
        if why:
            current = len(sections) - len(left) - 1
            show(Row(sections[max(0, current)], "", "", error=why))
            left = left if current >= 0 else sections[1:]
        return left


def _read(stream: IO[str], lines: "queue.SimpleQueue[str]") -> None:
    with stream:
        for line in stream:
            lines.put(line)
    lines.put("")


def _last(messages: IO[str]) -> str:
    messages.seek(0)
    lines = [line.strip() for line in messages.read().splitlines() if line.strip()]
    return lines[-1][:140] if lines else "no message"


def _end(process: "subprocess.Popen[str]") -> None:
    """End a process and those that it started, such as compilers."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def work(arguments: argparse.Namespace, sections: Sequence[str]) -> None:
    """Run sections in this process, and write their rows to standard output as JSON lines.

    Everything else that is printed goes to standard error.
    """
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        warnings.simplefilter("ignore")
        measure = _measurements(arguments)
        for section in sections:
            print(json.dumps({_BEGIN: section}), file=out, flush=True)
            for row in measure[section](section):
                print(json.dumps(asdict(row)), file=out, flush=True)


def _measurements(arguments: argparse.Namespace) -> dict[str, Callable[[str], Iterator[Row]]]:
    import torch

    import phaze_ee.models  # first, so that weaver's networks are imported without torch's compiler  # noqa: F401
    from benchmarks.gpu_sections import card, end_to_end, exits, inference, launches, pairs, training
    from benchmarks.gpu_sections.parts import Setting

    if arguments.tiny:
        torch.set_num_threads(1)
    shared = Path(arguments.shared) if arguments.shared else None
    setting = Setting(torch.device(arguments.device), arguments.batch, arguments.rounds, arguments.tiny, shared)
    return {
        "card": partial(card.rows, setting),
        "inference ParticleNet": partial(inference.rows, setting, network="ParticleNet"),
        "training ParticleNet": partial(training.rows, setting, network="ParticleNet"),
        "cascade": partial(exits.cascade_rows, setting),
        "latency": partial(exits.latency_rows, setting, network="ParticleNet"),
        "inference ParT": partial(inference.rows, setting, network="ParT"),
        "training ParT": partial(training.rows, setting, network="ParT"),
        "latency ParT": partial(exits.latency_rows, setting, network="ParT"),
        "end to end": partial(end_to_end.rows, setting),
        "launches": partial(launches.rows, setting),
        "pairs": partial(pairs.rows, setting),
    }


def python_command(script: Path, arguments: Sequence[str]) -> list[str]:
    """Return the command that starts a worker of a script."""
    return [sys.executable, str(script), *arguments, "--worker"]
