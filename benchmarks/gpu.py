"""Measures ParticleNet and Particle Transformer on a GPU, beside weaver-core, in at most four minutes.

python benchmarks/gpu.py [--batch 2048] [--sections …] [--shared FOLDER]
python benchmarks/gpu.py --end-to-end             # train from the cache, as a share of the bare step
python benchmarks/gpu.py --sections launches      # what CUDA graphs could gain
python benchmarks/gpu.py --sections pairs         # Particle Transformer's pairs alone, as kernels and in plain torch
python benchmarks/gpu.py --device cpu --tiny      # tries every section; its numbers mean nothing

It runs from a source tree, with torch, Triton, NumPy, weaver-core and pydantic installed. Jets have the multiplicities
of JetClass; a folder with real jets and published weights is used where it is found. Rivals run in the same process:
weaver's modules on jets cut to the longest one, eager and with torch.compile. Each row is appended to
benchmarks/gpu_ledger.jsonl. What fails is a line with the reason.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.gpu_sections.rows import (
    MORE_SECTIONS,
    SECTIONS,
    TOTAL,
    Row,
    about,
    append,
    bar_table,
    bars,
    line,
    table,
)
from benchmarks.gpu_sections.worker import collect, python_command, work

LEDGER = ROOT / "benchmarks" / "gpu_ledger.jsonl"
_BUSY_GB = 2.0  # that others take of the memory of a card
_GIGABYTE = 1e9


def parse(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, help="jets in a batch (default 2048; 16 with --tiny)")
    parser.add_argument("--rounds", type=int, help="timed calls (default 15; 1 with --tiny)")
    parser.add_argument("--seconds", type=int, default=TOTAL, help=f"for all sections (default {TOTAL})")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small networks and batches, to try every section")
    parser.add_argument("--shared", help="a folder with data/jetclass_real_dev.npz and weights/ParticleNet_kin.pt")
    parser.add_argument(
        "--ledger", type=Path, help=f"default on a card: {LEDGER.relative_to(ROOT)}; on a CPU or with --tiny: none"
    )
    parser.add_argument(
        "--sections", nargs="+", choices=SECTIONS | MORE_SECTIONS, default=list(SECTIONS), metavar="SECTION"
    )
    parser.add_argument(
        "--end-to-end", action="store_const", const=["end to end"], dest="sections",
        help="measure train, from the cache to the step, beside the bare step; it needs all libraries of the package",
    )  # fmt: skip
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args(given)
    arguments.batch = arguments.batch or (16 if arguments.tiny else 2048)
    arguments.rounds = arguments.rounds or (1 if arguments.tiny else 15)
    if arguments.shared is None:
        places = (folder / "shared" for folder in (ROOT, ROOT.parent))
        arguments.shared = next((str(place) for place in places if (place / "data").is_dir()), None)
    return arguments


def card_or_reason(device: str) -> tuple[str | None, str]:
    """Return the name of the card, and what to know about it; no name: nothing can be measured."""
    import torch

    if device == "cpu":
        return "CPU", "a trial on the CPU: its numbers mean nothing"
    if not torch.cuda.is_available():
        return None, "no CUDA device is here, or this torch has no CUDA: nothing is measured"
    free, total = torch.cuda.mem_get_info()
    used = (total - free) / _GIGABYTE
    busy = f"others use {used:.1f} GB of this card: times may be too long" if used > _BUSY_GB else ""
    return torch.cuda.get_device_name(), busy


def main() -> None:
    arguments = parse()
    if arguments.worker:
        work(arguments, arguments.worker)
        return
    card, note = card_or_reason(arguments.device)
    if card is None:
        raise SystemExit(note)
    common = about(card, ROOT)
    jets = f"real jets and published weights of {arguments.shared}" if arguments.shared else "random jets and weights"
    print(", ".join(f"{name} {value}" for name, value in common.items()), f"\n{jets}", f"\n{note}" * bool(note))
    ledger = arguments.ledger or (LEDGER if arguments.device == "cuda" and not arguments.tiny else None)
    rows: list[Row] = []

    def show(row: Row) -> None:
        rows.append(row)
        print(line(row), file=sys.stderr, flush=True)
        if ledger is not None:
            append(ledger, [row], common)

    given = [f"--{name}={getattr(arguments, name)}" for name in ("batch", "rounds", "device")]
    given += ["--tiny"] * arguments.tiny + [f"--shared={arguments.shared}"] * bool(arguments.shared)
    collect(python_command(Path(__file__), given), arguments.sections, show, arguments.seconds)
    everything = set(SECTIONS) <= set(arguments.sections)
    shown = [bar for bar in bars(rows) if everything or bar.measured is not None]
    print(table(rows), *[bar_table(shown)] * bool(shown), sep="\n\n")


if __name__ == "__main__":
    main()
