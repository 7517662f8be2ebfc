"""docs/study and the tables of docs/STUDY.md, from the cells that are there."""

from collections.abc import Mapping, Sequence

from benchmarks.study.cells import Cell, CellStore


def write(store: CellStore, cells: Mapping[int, Sequence[Cell]], size: str) -> None:
    raise NotImplementedError
