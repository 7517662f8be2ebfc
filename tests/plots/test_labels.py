import numpy as np
from matplotlib.figure import Figure

from phaze_ee.plots.labels import place_labels


def test_a_label_keeps_off_the_error_bar_of_a_neighbour() -> None:
    axes = Figure().add_subplot()
    axes.errorbar([0.5, 0.55], [0.5, 0.5], [0.0, 0.2], fmt="none")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    (label,) = place_labels(axes, [(0.5, 0.5)], ["exit 0"])
    bar = axes.transData.transform(np.column_stack([np.full(100, 0.55), np.linspace(0.3, 0.7, 100)]))
    box = label.get_window_extent()
    assert not ((bar > (box.x0, box.y0)) & (bar < (box.x1, box.y1))).all(axis=1).any()
