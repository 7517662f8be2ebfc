"""Cells of the study: each is one result in one file, and is computed only if that file is not there yet."""

import gzip
import json
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol

from phaze_ee.atomic import remove_abandoned, replacing
from phaze_ee.training.run import installed_versions

ROOT = Path(__file__).resolve().parents[2]
_COMPRESSED = ".json.gz"


@dataclass(frozen=True)
class Cell:
    """One result.

    Attributes:
        question: the number of the question.
        name: the path of its file, without suffix, below the folder of the question.
        parameters: everything that decides the result, beside the jets.
        make: computes the result, as plain values for JSON.
    """

    question: int
    name: str
    parameters: Mapping[str, Any]
    make: Callable[[], Any]


@dataclass(frozen=True)
class CellStore:
    """The files of the cells of one size.

    Attributes:
        folder: where they lie.
        jets: the number of jets of each sample.
        jets_hash: of the contents of all files with jets; a cell of other jets does not count.
        rules: the number of the rules by which answers are judged; a cell of other rules does not count.
        kept: the cells of earlier runs that are part of the project, compressed.
    """

    folder: Path
    jets: Mapping[str, int]
    jets_hash: str
    rules: int
    kept: Path | None = None

    def path(self, cell: Cell) -> Path:
        return path_of(cell.question, cell.name, self.folder)

    def read(self, cell: Cell) -> Any | None:
        """Return the record of a cell; None if it was not computed, or with other parameters or jets."""
        wanted = {"parameters": plain(cell.parameters), "jets_hash": self.jets_hash, "rules": self.rules}
        paths = [self.path(cell)]
        if self.kept is not None:
            paths.append(path_of(cell.question, cell.name, self.kept, compressed=True))
        for path in paths:
            found = _read(path) if path.is_file() else {}
            if all(found.get(name) == value for name, value in wanted.items()):
                return found
        return None

    def write(self, cell: Cell, result: Any, seconds: float) -> None:
        record = {
            "question": cell.question,
            "name": cell.name,
            "parameters": plain(cell.parameters),
            "jets": dict(self.jets),
            "jets_hash": self.jets_hash,
            "rules": self.rules,
            "commit": commit(),
            "versions": installed_versions(),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(seconds, 1),
            "result": result,
        }
        write_record(record, self.folder)


class Store(Protocol):
    """What :func:`run` needs of a store."""

    def read(self, cell: Cell) -> Any | None: ...

    def write(self, cell: Cell, result: Any, seconds: float) -> None: ...


def run(cells: Iterable[Cell], store: Store, minutes: float, say: Callable[[str], None]) -> int:
    """Compute the cells that are not there; start none after so many minutes. Return how many are still missing."""
    begin = time.monotonic()
    missing = [cell for cell in cells if store.read(cell) is None]
    for number, cell in enumerate(missing, 1):
        start = time.monotonic()
        if start - begin > 60 * minutes:
            return len(missing) - number + 1
        store.write(cell, cell.make(), time.monotonic() - start)
        say(f"Q{cell.question} {cell.name}: {time.monotonic() - start:.0f} s ({number} of {len(missing)})")
    return 0


def in_turn(questions: Sequence[Sequence[Cell]]) -> Iterator[Cell]:
    """Yield the first cell of every question, then the second of each, so that all have a first answer early."""
    for cells in zip_longest(*questions):
        yield from (cell for cell in cells if cell is not None)


def path_of(question: int, name: str, folder: Path, *, compressed: bool = False) -> Path:
    """Return the file of a cell."""
    return folder / f"q{question}" / f"{name}{_COMPRESSED if compressed else '.json'}"


def write_record(record: Mapping[str, Any], folder: Path, *, compressed: bool = False) -> None:
    """Write the record of a cell into its file. The same record gives the same bytes."""
    path = path_of(record["question"], record["name"], folder, compressed=compressed)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = (json.dumps(record) + "\n").encode()
    with replacing(path) as temporary:
        temporary.write_bytes(gzip.compress(content, mtime=0) if compressed else content)


def _read(path: Path) -> Any:
    content = path.read_bytes()
    return json.loads(gzip.decompress(content) if path.name.endswith(_COMPRESSED) else content)


def plain(values: Any) -> Any:
    """Return values as they look after a round trip through JSON."""
    return json.loads(json.dumps(values))


def commit() -> str:
    """Return the commit of the checkout, with a plus sign if tracked files of the code differ from it."""
    folders = ("phaze_ee", "benchmarks", "network_configs", "data_configs")
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", *folders)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if changed else "")


def forget_abandoned(folder: Path) -> None:
    """Remove the temporary files of killed runs."""
    for inner in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        remove_abandoned(inner)


def _git(*words: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()
