"""docs/study and the tables of docs/STUDY.md, from the cells that are there."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.study.cells import ROOT, Cell, CellStore, write_record
from benchmarks.study.questions import QUESTIONS
from phaze_ee.atomic import replacing

PAGE = ROOT / "docs" / "STUDY.md"
FOLDER = ROOT / "docs" / "study"
# Cells of these questions are part of the project, so that a run on another machine goes on from them. Those of
# question 3 hold the cost of each jet, which takes megabytes.
KEPT = (1, 2, 4, 5)
# All questions are answered at this size. Another size has files, marks of the page and figures of its own, and its
# cells, with more jets each, are not kept.
USUAL = "middle"
_DPI = 90


def write(store: CellStore, cells: Mapping[int, Sequence[Cell]], size: str, folder: Path = FOLDER) -> list[Path]:
    """Write one JSON file and one figure for each question that has cells, the cells, and the tables of the page.

    Returns:
        What was written, without the cells.
    """
    written = []
    for number, wanted in cells.items():
        records = [record for cell in wanted if (record := store.read(cell)) is not None]
        if records:
            written += _write_question(number, records, len(wanted), size, folder)
        for record in records if number in KEPT and size == USUAL else ():
            write_record(record, folder / size, compressed=True)
    if folder == FOLDER:
        with replacing(PAGE) as temporary:
            temporary.write_text(with_tables(PAGE.read_text(encoding="utf-8"), folder), encoding="utf-8")
    return written


def with_tables(page: str, folder: Path = FOLDER) -> str:
    """Return the page with the tables of the JSON files between its marks; text by hand stays."""
    for path in sorted(folder.glob("q*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        table = f"{_made(content)}\n\n{QUESTIONS[content['question']].tables(content['summary'])}"
        page = _between_marks(page, path.stem, table)
    return page


def _name(number: int, size: str) -> str:
    return f"q{number}" if size == USUAL else f"q{number}_{size}"


def _write_question(
    number: int, records: Sequence[Mapping[str, Any]], wanted: int, size: str, folder: Path
) -> list[Path]:
    question = QUESTIONS[number]
    content = {
        "question": number,
        "size": size,
        "cells": {"there": len(records), "planned": wanted},
        "jets": records[0]["jets"],
        "jets_hash": records[0]["jets_hash"],
        "commits": sorted({record["commit"] for record in records}),
        "versions": records[0]["versions"],
        "finished": max(record["finished"] for record in records),
        "summary": question.summarise(records),
    }
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{_name(number, size)}.{kind}" for kind in ("json", "png")]
    with replacing(paths[0]) as temporary:
        temporary.write_text(json.dumps(_rounded(content), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    figure = question.figure(content["summary"])
    with replacing(paths[1]) as temporary:
        figure.savefig(temporary, dpi=_DPI)
    return paths


def _made(content: Mapping[str, Any]) -> str:
    """Say in one line what was run."""
    jets = ", ".join(f"{name} {count:,}" for name, count in content["jets"].items())
    cells = content["cells"]
    return f"*Size {content['size']}: {cells['there']} of {cells['planned']} cells; jets: {jets}.*"


def _between_marks(page: str, name: str, text: str) -> str:
    begin, end = f"<!-- study:{name} -->", f"<!-- /study:{name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    return pattern.sub(lambda _: f"{begin}\n{text}\n{end}", page, count=1)


def _rounded(value: Any) -> Any:
    """Return values with six significant digits, so that files stay small."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: _rounded(found) for name, found in value.items()}
    return [_rounded(found) for found in value] if isinstance(value, list) else value
