from itertools import pairwise

import pytest

from phaze_ee.plots.sweep import sweep_figure
from phaze_ee.results.sweep import SweepResults, SweepTrial, SweptOption
from tests.plots.drawn import line_named, points

SPACE = {"lr": SweptOption(values="1e-3:1e-1:log", log=True), "exit_head": SweptOption(values="linear,mlp", log=None)}


def swept(*trials: tuple[float | None, float, str]) -> SweepResults:
    made = [
        SweepTrial(
            project=f"p_sweep_{number:03d}",
            state="failed" if objective is None else "complete",
            values={"lr": lr, "exit_head": head},
            objective=objective,
        )
        for number, (objective, lr, head) in enumerate(trials)
    ]
    return SweepResults(project="p", study="sweep", objective="full_model", space=SPACE, trials=made)


def test_one_panel_for_the_trials_and_one_for_each_option() -> None:
    results = swept((0.5, 0.01, "linear"), (None, 0.02, "mlp"), (0.7, 0.05, "mlp"), (0.6, 0.002, "linear"))
    trials, rate, head = sweep_figure(results).axes
    assert points(line_named(trials, "trial")) == [(0, 0.5), (2, 0.7), (3, 0.6)]
    assert points(line_named(trials, "best so far")) == [(0, 0.5), (2, 0.7), (3, 0.7)]
    assert rate.get_xscale() == "log"
    assert points(line_named(rate, "best")) == [(0.05, 0.7)]
    assert [label.get_text() for label in head.get_xticklabels()] == ["linear", "mlp"]
    assert points(line_named(head, "trial")) == [(0, 0.5), (1, 0.7), (0, 0.6)]


def test_a_single_trial_is_drawn() -> None:
    assert [axes.get_xlabel() for axes in sweep_figure(swept((0.5, 0.01, "linear"))).axes] == [
        "Trial",
        "lr",
        "exit_head",
    ]


def test_ticks_of_a_short_logarithmic_range_do_not_overlap() -> None:
    figure = sweep_figure(swept((0.5, 0.0031, "linear"), (0.6, 0.0047, "mlp")))
    figure.draw_without_rendering()
    rate = figure.axes[1]
    low, high = rate.get_xlim()
    labels = [tick.label1 for tick in rate.xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
    labels += [label for label in rate.get_xticklabels(minor=True) if label.get_text()]
    boxes = [label.get_window_extent() for label in labels]
    assert len(boxes) >= 2
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_equal_objectives_rank_as_they_were_drawn() -> None:
    results = swept((None, 0.1, "mlp"), (0.5, 0.1, "mlp"), (0.5, 0.2, "mlp"))
    assert [trial.values["lr"] for trial in results.ranked] == pytest.approx([0.1, 0.2, 0.1])
