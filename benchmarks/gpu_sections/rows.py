"""What is measured: a row of the table and of the ledger, the sections with their time limits, and the bars."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

# Seconds. The sum, with the start of a process, is at most four minutes.
SECTIONS = {
    "card": 10,
    "inference ParticleNet": 55,
    "training ParticleNet": 60,
    "cascade": 15,
    "latency": 15,
    "inference ParT": 35,
    "training ParT": 40,
    "latency ParT": 10,
}
# Measured if they are named, within the same total.
MORE_SECTIONS = {"end to end": 170, "launches": 40, "pairs": 40}
TOTAL = 240
OURS, COMPILED, EAGER = "phaze_ee", "weaver compiled", "weaver eager"
GRAPHS = f"{OURS}, graphs"  # one jet, replayed as CUDA graphs
LOADER, STEP, TRAIN = "cache to batches", f"{OURS}, bare step", f"{OURS}, train"
_PACKAGES = ("torch", "triton", "numpy", "weaver-core")
Key = tuple[str, str, str]  # section, rival and precision
_NAME, _PRECISION = 20, 9
_WIDTHS = {"batch": 6, "jets/s": 10, "GB": 7, "logits": 8, "same %": 7, "GB/s": 6, "TFLOP": 6}


@dataclass(frozen=True)
class Row:
    """One measurement, or why there is none.

    Attributes:
        section: a name of :data:`SECTIONS` or :data:`MORE_SECTIONS`.
        who: a rival and its form.
        precision: of the operands of products.
        batch: jets in a call.
        jets_per_second: jets divided by the median time of a call.
        memory_gb: the peak above what was there before; None on the CPU.
        difference: the largest difference of a logit from weaver in float64.
        same_class: the share of jets with the same class as in float64.
        gb_per_second: counted bytes (:mod:`benchmarks.gpu_sections.counts`) in the time of a call.
        tflop_per_second: counted operations in the time of a call.
        error: the reason in one line, where something failed.
    """

    section: str
    who: str
    precision: str
    batch: int = 0
    jets_per_second: float | None = None
    memory_gb: float | None = None
    difference: float | None = None
    same_class: float | None = None
    gb_per_second: float | None = None
    tflop_per_second: float | None = None
    error: str | None = None


class Bar(NamedTuple):
    """A ratio, a rate or a share that is to be reached, and what was measured; None: nothing was."""

    title: str
    least: float
    measured: float | None


def one_line(error: BaseException) -> str:
    """Return an error in one line of at most 160 characters."""
    name = type(error).__name__
    if name == "OutOfMemoryError":
        return "too little memory on the card: choose a smaller --batch"
    lines = str(error).strip().splitlines()
    return f"{name}: {lines[0] if lines else 'no message'}"[:160]


def bars(rows: Sequence[Row]) -> list[Bar]:
    """Return the bars, with the measurements of these rows."""
    net, train, part, part_train = (
        f"{work} {network}" for network in ("ParticleNet", "ParT") for work in ("inference", "training")
    )
    bf16, eager, compiled = "bfloat16", (net, EAGER, "float32"), (net, COMPILED, "bfloat16")
    ours, rival = (train, OURS, bf16), (train, COMPILED, bf16)
    full = ("cascade", f"{OURS}, full model", "float32")

    def rate(key: Key) -> float | None:
        return _of(rows, "jets_per_second", key)

    def faster(key: Key, other: Key) -> float | None:
        return _over(rate(key), rate(other))

    def alone(section: str) -> float | None:
        return faster((section, GRAPHS, "float32"), (section, EAGER, "float32"))

    share = [
        Bar(
            "train end to end / bare step",
            0.85,
            faster((row.section, TRAIN, row.precision), (row.section, STEP, row.precision)),
        )
        for row in rows
        if row.who == TRAIN
    ]
    return [
        *share,
        Bar("ParticleNet float32 / weaver eager float32", 4, faster((net, OURS, "float32"), eager)),
        Bar("ParticleNet float16 / weaver compiled bf16", 5, faster((net, OURS, "float16"), compiled)),
        Bar("ParticleNet float16, jets/s", 500_000, rate((net, OURS, "float16"))),
        Bar("ParticleNet float16, same class as float64", 0.999, _of(rows, "same_class", (net, OURS, "float16"))),
        Bar("training, 3 exits, bf16 / weaver compiled", 3, faster(ours, rival)),
        Bar("training, 3 exits, bf16, jets/s", 110_000, rate(ours)),
        Bar("weaver compiled / training, memory", 3, _over(*(_of(rows, "memory_gb", key) for key in (rival, ours)))),
        Bar("ParT bf16 / weaver compiled bf16", 3, faster((part, OURS, bf16), (part, COMPILED, bf16))),
        Bar("ParT training bf16 / weaver compiled", 2, faster((part_train, OURS, bf16), (part_train, COMPILED, bf16))),
        Bar("cascade, 99.9 % QCD / our full model", 10, faster(("cascade", f"{OURS}, cascade", "float32"), full)),
        Bar("one jet, full model / weaver eager", 3, alone("latency")),
        Bar("one jet, ParT / weaver eager", 3, alone("latency ParT")),
    ]


def _of(rows: Sequence[Row], attribute: str, key: Key) -> float | None:
    """Return a number of the first row of a section, rival and precision: of latencies, that of one jet."""
    return next((getattr(row, attribute) for row in rows if (row.section, row.who, row.precision) == key), None)


def _over(numerator: float | None, denominator: float | None) -> float | None:
    return None if numerator is None or not denominator else numerator / denominator


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a table. "logits" is the largest difference from float64; GB/s and TFLOP/s are counted."""
    lines = [" " * (_NAME + _PRECISION) + "".join(f"{name:>{width}}" for name, width in _WIDTHS.items())]
    last = ""
    for row in rows:
        lines += [] if row.section == last else ["", row.section]
        last = row.section
        lines.append(line(row))
    return "\n".join(lines)


def line(row: Row) -> str:
    """Return a row of the table."""
    name = f"{row.who:<{_NAME}}{row.precision:>{_PRECISION}}"
    if row.error is not None:
        return f"{name}  {row.error}"
    numbers = (
        _number(row.batch or None, "d"),
        _number(row.jets_per_second, ",.0f"),
        _number(row.memory_gb, ".2f"),
        _number(row.difference, ".1e"),
        _number(None if row.same_class is None else 100 * row.same_class, ".2f"),
        _number(row.gb_per_second, ",.0f"),
        _number(row.tflop_per_second, ",.0f"),
    )
    cells = zip(numbers, _WIDTHS.values(), strict=True)
    return name + "".join(f"{number:>{width}}" for number, width in cells)


def bar_table(found: Sequence[Bar]) -> str:
    """Return the bars beside what was measured."""
    lines = [f"{'bar':<48}{'at least':>10}{'measured':>10}"]
    for bar in found:
        verdict = "not measured" if bar.measured is None else "reached" if bar.measured >= bar.least else "missed"
        lines.append(f"{bar.title:<48}{bar.least:>10,g}{_number(bar.measured, ',.4g'):>10}  {verdict}")
    return "\n".join(lines)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"


def about(card: str, root: Path) -> dict[str, str]:
    """Return what belongs to every line of the ledger: the card, versions, date and commit."""
    git = ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # a source tree without git
        commit = "unknown"
    versions = {name: _version(name) for name in _PACKAGES}
    return {"card": card, "date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit, **versions}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def append(path: Path, rows: Sequence[Row], common: dict[str, str]) -> None:
    """Append one JSON line for each row to the ledger."""
    with path.open("a", encoding="utf-8") as ledger:
        for row in rows:
            ledger.write(json.dumps(common | {name: value for name, value in asdict(row).items() if value is not None}))
            ledger.write("\n")


def row_from(values: dict[str, Any]) -> Row:
    """Return a row from its fields."""
    return Row(**{name: values[name] for name in (item.name for item in fields(Row)) if name in values})
