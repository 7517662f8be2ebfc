"""Saving without drawing, for tests that ask which files a mode writes and not what is in them."""

from pathlib import Path

from matplotlib.figure import Figure


def save_nothing(figure: Figure, stem: Path) -> list[Path]:
    """Make empty files of the names that ``phaze_ee.plots.style.save`` would write."""
    assert figure.axes
    paths = [stem.with_name(stem.name + suffix) for suffix in (".png", ".pdf")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return paths
