"""What a figure shows, in data coordinates."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D


def points(line: Line2D) -> list[tuple[float, float]]:
    """Return the vertices of a line."""
    return [(float(x), float(y)) for x, y in np.asarray(line.get_xydata())]


def line_named(axes: Axes, label: str) -> Line2D:
    """Return the line with that label."""
    return next(line for line in axes.get_lines() if line.get_label() == label)
