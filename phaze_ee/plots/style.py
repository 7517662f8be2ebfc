"""The style of all figures, and how a figure is saved."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mplhep
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from phaze_ee.atomic import replacing
from phaze_ee.names import FULL_MODEL, POLICY

# A function of a module with its arguments, which can be sent to other processes.
Drawing = Callable[[], Figure]

# Ten colours that are distinct also with the common forms of colour blindness: M. Petroff, arXiv:2107.02270.
PALETTE = (
    "#3f90da", "#ffa90e", "#bd1f01", "#832db6", "#717581",
    "#a96b59", "#e76300", "#b9ac70", "#94a4a2", "#92dadd",
)  # fmt: skip
_POLICY_COLOUR = "#c849a9"  # from the set of eight in the same paper
_DPI = 200
FONTS = ("TeX Gyre Heros", "DejaVu Sans")  # the second has glyphs that the first lacks (β)
_STYLE: Any = {
    "font.family": list(FONTS),
    "font.size": 14,
    "axes.linewidth": 1.2,
    "lines.linewidth": 1.8,
    "lines.markersize": 7,
    "xtick.major.size": 7,
    "xtick.minor.size": 3.5,
    "ytick.major.size": 7,
    "ytick.minor.size": 3.5,
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
}
_FINAL_LAYOUT: Any = {"figure.constrained_layout.use": False}
# Without a date, the same results give the same bytes.
_METADATA: dict[str, dict[str, Any]] = {".png": {}, ".pdf": {"CreationDate": None}}


@contextmanager
def hep_style() -> Iterator[None]:
    """Draw in mplhep's ROOT style, and restore matplotlib's settings afterwards. Also a decorator."""
    with rc_context(mplhep.style.ROOT), rc_context(_STYLE):
        yield


def exit_colour(name: str, index: int) -> str:
    """Return the colour of an exit, the same in all figures; black for the full model, another for the policy."""
    return {FULL_MODEL: "black", POLICY: _POLICY_COLOUR}.get(name, PALETTE[index % len(PALETTE)])


def ink_on(colour: str) -> str:
    """Return the colour of text that can be read on a colour: black on a light one, else white."""
    red, green, blue = to_rgb(colour)
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"  # luma of ITU-R BT.601


def simulation_label(axes: Axes, note: str = "", note_axes: Axes | None = None) -> None:
    """Write "PHAZE-EE Simulation" above the left end of ``axes``, and ``note`` above the right end of ``note_axes``.

    This makes the layout final, so call it after everything that needs space in the figure.
    """
    _label(axes, "Simulation", note, note_axes)


def data_label(axes: Axes, note: str = "") -> None:
    """Write "PHAZE-EE" above ``axes`` as :func:`simulation_label` does, without saying that the jets are simulated."""
    _label(axes, "", note)


def _label(axes: Axes, kind: str, note: str, note_axes: Axes | None = None) -> None:
    (note_axes or axes).set_title(note, loc="right", fontsize="small")
    axes.set_title(" ", loc="left", fontsize=20)  # keeps space for the label
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    with rc_context(_FINAL_LAYOUT):  # mplhep spaces the words by the width of the axes
        figure.set_layout_engine(None)  # not "none", with which matplotlib would draw each file twice
    mplhep.label.exp_label(exp="PHAZE-EE", llabel=kind, rlabel="", loc=0, ax=axes, fontsize=15)


def legend_below(figure: Figure, axes: Axes | Sequence[Axes], columns: int) -> None:
    """Put the legend of ``axes`` below them, where it hides no data; a label of several axes is there once."""
    entries: dict[str, Artist] = {}
    for one in [axes] if isinstance(axes, Axes) else axes:
        for handle, label in zip(*one.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns, fontsize="small")


@hep_style()
def save(figure: Figure, stem: Path) -> list[Path]:
    """Write ``stem``.png and ``stem``.pdf, and return their paths.

    Raises:
        RunError: a file could not be written.
    """
    paths = [stem.with_name(stem.name + suffix) for suffix in _METADATA]
    for path in paths:
        with replacing(path) as temporary, rc_context(_FINAL_LAYOUT):
            figure.savefig(temporary, dpi=_DPI, metadata=_METADATA[path.suffix])
    return paths
