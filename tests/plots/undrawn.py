"""Saving without drawing, for tests that ask which files a mode writes and not what is in them."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from phaze_ee.plots.style import Drawing


def write_nothing(drawings: Mapping[Path, Drawing]) -> Iterator[list[Path]]:
    """Make the figures, and empty files of the names that ``phaze_ee.plots.write.write_drawings`` would write."""
    for drawing in drawings.values():
        assert drawing().axes
    yield from write_names(drawings)


def write_names(drawings: Mapping[Path, Drawing]) -> Iterator[list[Path]]:
    """Make no figure, only the empty files."""
    for stem in drawings:
        paths = [stem.with_name(stem.name + suffix) for suffix in (".png", ".pdf")]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        yield paths
