import numpy as np
import pytest
from matplotlib.collections import FillBetweenPolyCollection, LineCollection

from phaze_ee.plots.monitor import monitor_figure
from phaze_ee.results.watching import Look, Watched
from tests.plots.drawn import line_named, points

FIRST = [Look(jets=1000 * count, share=0.01, low=0.0, high=0.03 / count) for count in (1, 2)]
SECOND = [Look(jets=3000, share=0.002, low=0.0, high=0.2)]


def watched(**changes: object) -> Watched:
    values: dict[str, object] = {
        "parts": [FIRST, SECOND],
        "values": {},
        "by": None,
        "epsilon": 0.02,
        "confidence": 0.95,
        "verdict": "kept so far",
        "moves": [(2000, 3)],
        "selected": False,
    }
    return Watched(**{**values, **changes})  # type: ignore[arg-type]


def test_estimates_limits_promise_and_moves_are_drawn() -> None:
    axes = monitor_figure(watched()).axes[0]
    estimates = [points(line) for line in axes.get_lines() if line.get_label() == "estimate"]
    assert estimates == [[(look.jets, look.share) for look in part] for part in (FIRST, SECOND)]
    bands = [child for child in axes.get_children() if isinstance(child, FillBetweenPolyCollection)]
    corners = np.asarray(bands[0].get_paths()[0].vertices).tolist()
    assert all(corner in corners for corner in ([1000, 0.03], [2000, 0.015], [2000, 0]))
    (alone,) = [child for child in axes.get_children() if isinstance(child, LineCollection)]
    assert np.asarray(alone.get_segments()).tolist() == [[[3000, 0.0], [3000, 0.2]]]  # of one look
    assert {y for _, y in points(line_named(axes, "promised: ≤ 2 %"))} == {0.02}
    assert {x for x, _ in points(line_named(axes, "move to a safer policy"))} == {2000}
    assert "step 3" in " ".join(text.get_text() for text in axes.texts)
    assert axes.get_title(loc="right") == "kept so far"
    assert axes.get_ylim() == pytest.approx((0, 1.6 * 0.2))


def test_values_of_a_column_are_points_with_names() -> None:
    values = {"Run3_A": (FIRST[0], "not known yet"), "Run3_B": (Look(500, 0.09, 0.04, 0.15), "broken")}
    figure = monitor_figure(watched(by="era", values=values, parts=[FIRST], moves=[], verdict="broken"))
    axes = figure.axes[0]
    lines = [line for line in axes.get_lines() if points(line) == [(1, 0.09)]]
    assert len(lines) == 1
    assert [container.get_label() for container in axes.containers] == ["not known yet", "broken"]
    figure.draw_without_rendering()
    assert [label.get_text() for label in axes.get_xticklabels() if label.get_text()] == ["Run3_A", "Run3_B"]
    assert axes.get_xlabel() == "era"
