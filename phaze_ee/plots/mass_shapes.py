"""Mass of the background before and behind the cut on the tagger: does it, and does leaving early, shape it?"""

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from phaze_ee.dynamic_results import MassAudit, MassShape
from phaze_ee.plots.style import PALETTE, hep_style, legend_below, simulation_label
from phaze_ee.plots.titles import class_title, observable_title


@hep_style()
def mass_shapes_figure(mass: MassAudit) -> Figure:
    """Draw the shapes, each normalised to one, and below them their ratio to the shape before the cut.

    Bins in which no jet passes are left empty.
    """
    figure = Figure(figsize=(8.5, 8.5))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.2))
    uncut = np.array(mass.uncut_counts)
    above.stairs(uncut / uncut.sum(), mass.edges, fill=True, color="0.85", label=f"no cut ({uncut.sum():,} jets)")
    for shape, name, colour, shift in (
        (mass.full_model, "full model", "black", -0.12),
        (mass.mixture, "leaving early", PALETTE[2], 0.12),
    ):
        _draw(above, below, np.array(mass.edges), uncut, shape, f"{name}, {_divergence(shape)}", colour, shift)
    background, signal = class_title(mass.background), class_title(mass.signal)
    above.set_ylabel(f"Share of {background} jets per bin")
    above.set_ylim(bottom=0)
    below.axhline(1, color="0.6", linewidth=1)
    below.set_ylabel("Ratio to\nno cut")
    below.set_yscale("log")
    below.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    below.set_xlabel(observable_title(mass.observable))
    legend_below(figure, above, columns=1)
    simulation_label(above, f"{background} behind the cut for {100 * mass.signal_efficiency:g} % of {signal}")
    return figure


def _divergence(shape: MassShape) -> str:
    if shape.divergence is None:
        return "no jet passes"
    chance = f"random jets: {shape.floor:.3f}, 95 % below {shape.floor_95:.3f}"
    return f"{shape.jets:,} jets, JSD = {shape.divergence:.3f} ({chance})"


def _draw(
    above: Axes,
    below: Axes,
    edges: npt.NDArray[np.float64],
    uncut: npt.NDArray[np.int64],
    shape: MassShape,
    title: str,
    colour: str,
    shift: float,
) -> None:
    """Draw one shape with Poisson errors, its points moved by ``shift`` bins so that two can be told apart."""
    counts = np.array(shape.counts)
    centres = (edges[:-1] + edges[1:]) / 2 + shift * np.diff(edges)
    style: Any = {"fmt": "o", "color": colour, "markersize": 4.5, "linewidth": 1.2}
    some = counts > 0
    value, error = counts[some] / counts.sum(), np.sqrt(counts[some]) / counts.sum()
    above.errorbar(centres[some], value, error, label=title, **style)
    before = uncut[some] / uncut.sum()
    below.errorbar(centres[some], value / before, error / before, **style)
