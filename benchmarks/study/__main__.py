"""Answers the five questions of docs/STUDY.md, cell by cell; the same command continues where it was killed.

    python -m benchmarks.study --work FOLDER [--size small --jets FOLDER | --size middle | --size full]
        [--questions 1 5] [--weights ParticleNet_full.pt] [--only frozen published] [--minutes 60]
    python -m benchmarks.study --work FOLDER --size middle --report

Each cell is one result in one file of FOLDER, with everything that it depends on. Cells that are there, or below
docs/study, are not computed again. Sizes middle and full generate their jets first, which takes hours. --report writes
docs/study and the tables of docs/STUDY.md from the cells that are there.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.study import report
from benchmarks.study.cells import Cell, CellStore, forget_abandoned, in_turn, run
from benchmarks.study.jets import CHUNKS, StudyJets
from benchmarks.study.judge import RULES
from benchmarks.study.project import Study
from benchmarks.study.questions import QUESTIONS
from phaze_ee.errors import UsageError


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="jets, features, projects and cells lie here")
    parser.add_argument("--questions", type=int, nargs="+", choices=QUESTIONS, default=list(QUESTIONS))
    parser.add_argument("--size", choices=("small", *CHUNKS), default="small")
    parser.add_argument("--jets", type=Path, nargs="+", default=[], help="folders with jets to divide (size small)")
    parser.add_argument("--weights", type=Path, help="the published ParticleNet_full; without it, its cells are left")
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT", help="cells whose name begins with a TEXT")
    parser.add_argument("--minutes", type=float, default=60.0, help="start no cell after this time")
    parser.add_argument("--report", action="store_true", help="only write docs/study and docs/STUDY.md")
    return parser.parse_args()


def generate(jets: StudyJets) -> None:
    for chunk in jets.missing:
        print(f"generating {chunk.folder}", flush=True)
        chunk.make()


def cells_of(study: Study, questions: Sequence[int]) -> list[list[Cell]]:
    return [list(QUESTIONS[number].cells(study)) for number in questions]


def main() -> None:
    arguments = parse()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    if arguments.weights is not None and not arguments.weights.is_file():
        raise UsageError(f"--weights {arguments.weights}: there is no such file")
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    os.environ["PHAZE_EE_WORKSPACES"] = str(work / arguments.size / "projects")
    ready, size = arguments.jets, arguments.size
    jets = StudyJets.small(work, ready) if size == "small" else StudyJets.generated(work, size)
    generate(jets)
    forget_abandoned(work / arguments.size)
    store = CellStore(work / arguments.size / "cells", jets.counts, jets.hash, RULES, report.FOLDER / arguments.size)
    cells = cells_of(Study(work / arguments.size, arguments.size, jets, arguments.weights), arguments.questions)
    if arguments.report:
        report.write(store, dict(zip(arguments.questions, cells, strict=True)), arguments.size)
        return
    chosen = [cell for cell in in_turn(cells) if cell.name.startswith(tuple(arguments.only))]
    left = run(chosen, store, arguments.minutes, lambda line: print(line, flush=True))
    print(f"{left} cells are left; the same command continues" if left else "all cells are there")


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        print(f"benchmarks.study: {error}", file=sys.stderr)
        raise SystemExit(error.exit_status) from error
