"""Labels of points, placed so that they cover no points, lines or other labels."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

_DIRECTIONS = ((1, 0), (0, -1), (1, -1), (0, 1), (-1, 1), (1, 1), (-1, 0), (-1, -1))
_DISTANCES = (11, 18, 27, 40, 55)  # points
_MARKER_RADIUS = 8  # points
_HORIZONTAL = {1: "left", 0: "center", -1: "right"}
_VERTICAL = {1: "bottom", 0: "center", -1: "top"}


def place_labels(axes: Axes, points: Sequence[tuple[float, float]], texts: Sequence[str]) -> list[Annotation]:
    """Write each text next to its point, at the nearest place without markers, lines and other labels.

    Call it when the layout of the figure and the limits of the axes are final. If no place is free, the least crowded
    one is used.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    obstacles = _obstacles(axes, figure.dpi / 72)
    taken: list[Bbox] = []
    labels = []
    for point, text in zip(points, texts, strict=True):
        label = axes.annotate(text, point, xytext=(0, 0), textcoords="offset points", fontsize="small", zorder=5)
        label.set_in_layout(False)
        taken.append(_move_to_free_place(label, axes.bbox, obstacles, taken))
        labels.append(label)
    return labels


def _obstacles(axes: Axes, pixels_per_point: float) -> NDArray[np.float64]:
    """Return pixel positions (M, 2) that labels should not cover: on lines, error bars and the rims of markers."""
    found = [np.empty((0, 2))]
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    rim = _MARKER_RADIUS * pixels_per_point * np.column_stack([np.cos(angles), np.sin(angles)])
    steps = np.linspace(0, 1, 60)[:, None]
    for line in axes.get_lines():
        pixels = line.get_transform().transform(np.asarray(line.get_path().vertices, dtype=float))
        if line.get_linestyle() != "None":
            found += [start + steps * (end - start) for start, end in pairwise(pixels)]
        if line.get_marker() not in ("None", "", None):
            found += [pixel + rim for pixel in pixels]
    for bars in axes.collections:
        if isinstance(bars, LineCollection):
            bar_ends = [bars.get_transform().transform(bar) for bar in bars.get_segments()]
            found += [start + steps * (end - start) for start, end in bar_ends]
    return np.concatenate(found)


def _move_to_free_place(label: Annotation, frame: Bbox, obstacles: NDArray[np.float64], taken: list[Bbox]) -> Bbox:
    """Move the label to the first free place around its point, and return its box in pixels."""
    best = (np.inf, (0, 0), (0, 0))
    for distance in _DISTANCES:
        for direction in _DIRECTIONS:
            offset = (direction[0] * distance, direction[1] * distance)
            crowd = _crowd(_box(label, direction, offset), frame, obstacles, taken)
            if crowd < best[0]:
                best = (crowd, direction, offset)
            if crowd == 0:
                return _box(label, direction, offset)
    return _box(label, best[1], best[2])


def _box(label: Annotation, direction: tuple[int, int], offset: tuple[int, int]) -> Bbox:
    label.set(position=offset, horizontalalignment=_HORIZONTAL[direction[0]], verticalalignment=_VERTICAL[direction[1]])
    return label.get_window_extent().padded(2)


def _crowd(box: Bbox, frame: Bbox, obstacles: NDArray[np.float64], taken: list[Bbox]) -> float:
    """Return how much the box covers: 0 if the place is free."""
    inside = ((obstacles > (box.x0, box.y0)) & (obstacles < (box.x1, box.y1))).all(axis=1).sum()
    sticks_out = box.x0 < frame.x0 or box.x1 > frame.x1 or box.y0 < frame.y0 or box.y1 > frame.y1
    return float(inside + 1000 * box.count_overlaps(taken) + 1000 * sticks_out)
