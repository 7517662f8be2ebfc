"""Checks and measures everything on this machine's GPU, in at most ten minutes: tests, then benchmarks/gpu.py.

python benchmarks/card.py [--minutes 9] [--out FOLDER]
python benchmarks/card.py --only "end to end" launches pairs   # what was left out, because the time was over
python benchmarks/card.py --device cpu --tiny     # tries every part on a CPU; its numbers mean nothing

The parts run one after the other, each in a process of its own and within its time. A part that cannot run, or is
stopped, is one line with the reason. The whole output of each part is kept in a file of the folder. What passed or
failed, and each row that was measured, is appended to benchmarks/gpu_ledger.jsonl.
"""

import argparse
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.gpu import LEDGER, card_or_reason
from benchmarks.gpu_sections.rows import Row, about, append

_GRACE = 20  # seconds that a part may take to end by itself
# A module that lacks a library is one error, and the others run.
_WHATEVER_FAILS = ("--continue-on-collection-errors", "--tb=short", "-rfE", "--durations=5")
# Most of the time of the tests is that of Triton's compiler, on one core for each process.
_AT_ONCE = ("-n", str(min(8, os.cpu_count() or 1))) if importlib.util.find_spec("xdist") else ()
_TESTS = ("-m", "pytest", "-q", "-o", "addopts=", "-p", "no:cacheprovider", *_AT_ONCE, *_WHATEVER_FAILS)
_MEASURE = ("benchmarks/gpu.py",)
_NEEDED = ("torch", "triton", "numpy", "weaver", "pydantic")
_TRAINS = ("lightning", "rich", "uproot", "sklearn", "numba")
_NOTED = re.compile(r"(FAILED|ERROR) .*|\d+ (passed|failed|skipped|deselected|error).*|no tests ran.*")
_TABLE = re.compile(r" +batch +jets/s.*")


@dataclass(frozen=True)
class Part:
    """What one process does.

    Attributes:
        command: the arguments of Python.
        seconds: its limit.
        needs: libraries without which it is left out.
    """

    command: tuple[str, ...]
    seconds: int
    needs: tuple[str, ...]

    @property
    def measures(self) -> bool:
        """Whether it is a benchmark, which appends to the ledger itself; else it is tests."""
        return self.command[0] == _MEASURE[0]


PARTS = {
    "tests of kernels": Part(
        (
            *_TESTS,
            "tests/kernels",
            "tests/test_transfer.py",
            "tests/benchmark/test_precisions.py",
            "tests/engine/test_on_card.py",
            "tests/engine/test_graphs.py",
            "tests/pretend_card/test_like_a_card.py",
        ),
        120,
        (*_NEEDED, "pytest"),
    ),
    "rates": Part(_MEASURE, 240, _NEEDED),
    "tests of trainings": Part(
        (
            *_TESTS,
            "-k",
            "cuda or on_card",
            "tests/modes/test_on_card.py",
            "tests/training/test_cuda.py",
            "tests/training/test_mixed_precision.py",
            "tests/training/test_ranger.py",
            "tests/training/test_without_padding.py",
        ),
        120,
        (*_NEEDED, *_TRAINS, "pytest"),
    ),
    "end to end": Part((*_MEASURE, "--end-to-end"), 150, (*_NEEDED, *_TRAINS)),
    "launches": Part((*_MEASURE, "--sections", "launches"), 40, _NEEDED),
    "pairs": Part((*_MEASURE, "--sections", "pairs"), 40, _NEEDED),
}


def parse(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0, help="for all parts together (default 9)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--out", type=Path, default=Path("card_output"), help="folder of the outputs (card_output)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small networks and batches, to try every part")
    parser.add_argument("--shared", help="see benchmarks/gpu.py")
    parser.add_argument("--ledger", type=Path, help="see benchmarks/gpu.py")
    return parser.parse_args(given)


def missing(part: Part, device: str) -> list[str]:
    """Return the libraries that a part needs and that are not installed. Kernels run on a card only."""
    needed = [name for name in part.needs if name != "triton" or device == "cuda"]
    return [name for name in needed if importlib.util.find_spec(name) is None]


def run(command: Sequence[str], seconds: float, output: Path) -> str:
    """Run Python from the source tree, with its output in a file; return why it did not succeed, or ""."""
    # A machine without a network has its libraries where PYTHONPATH says.
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}
    with output.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT
        )
        # Interrupted first, so that pytest tells what failed until then, and gpu.py ends its own processes.
        for stop, limit in ((signal.SIGINT, seconds), (signal.SIGKILL, _GRACE)):
            try:
                status = process.wait(limit)
            except subprocess.TimeoutExpired:
                process.send_signal(stop)
            else:
                return _reason(status, seconds, stopped=stop == signal.SIGKILL)
        process.wait()
        return f"ended after {seconds:.0f} s, and killed"


def _reason(status: int, seconds: float, *, stopped: bool) -> str:
    if stopped:
        return f"stopped after {seconds:.0f} s"
    return "" if status == 0 else f"ended with status {status}"


def summary(part: Part, output: Path) -> list[str]:
    """Return what matters of an output: the tables of a benchmark, or the tests that failed and how many ran."""
    lines = output.read_text(encoding="utf-8", errors="replace").splitlines()
    if not part.measures:
        return [line for line in lines if _NOTED.fullmatch(line)]
    table = next((index for index, line in enumerate(lines) if _TABLE.fullmatch(line)), 0)
    return lines[table:]


def command_of(part: Part, arguments: argparse.Namespace, seconds: float) -> list[str]:
    """Return the arguments of Python for a part."""
    if not part.measures:
        return list(part.command)
    options = [f"--seconds={seconds:.0f}", f"--device={arguments.device}", *["--tiny"] * arguments.tiny]
    given = {name: getattr(arguments, name) for name in ("shared", "ledger")}
    return [*part.command, *options, *(f"--{name}={value}" for name, value in given.items() if value is not None)]


def main(given: list[str] | None = None) -> int:
    arguments = parse(given)
    card, note = card_or_reason(arguments.device)
    if card is None:
        print(note)
        return 1
    common = about(card, ROOT)
    ledger = arguments.ledger or (LEDGER if arguments.device == "cuda" and not arguments.tiny else None)
    arguments.out.mkdir(parents=True, exist_ok=True)
    print(", ".join(f"{name} {value}" for name, value in common.items()), f"\n{note}" * bool(note))
    end, failed = time.monotonic() + 60 * arguments.minutes, False
    for name in arguments.only:
        part, left = PARTS[name], end - time.monotonic()
        seconds, output = min(part.seconds, left - _GRACE), arguments.out / f"{name.replace(' ', '_')}.txt"
        print(f"\n{name}", flush=True)
        if absent := missing(part, arguments.device):
            reason = f"left out: {', '.join(absent)} is not installed"
        elif seconds < 1:
            reason = f"left out: {arguments.minutes:g} minutes were over"
        else:
            reason = run(command_of(part, arguments, seconds), seconds + (_GRACE if part.measures else 0), output)
            found = summary(part, output)
            print(*found, sep="\n")
            if ledger is not None and not part.measures:
                append(ledger, [Row(name, found[-1] if found else "", "", error=reason or None)], common)
        if reason:
            print(reason + (f"; see {output}" if output.exists() else ""))
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
