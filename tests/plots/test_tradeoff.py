import dataclasses
from collections.abc import Sequence
from itertools import combinations
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from phaze_ee.names import FULL_MODEL, POLICY
from phaze_ee.plots.style import hep_style
from phaze_ee.plots.tradeoff import (
    TRADEOFFS,
    Point,
    Score,
    pareto_frontier,
    tradeoff_figure,
    tradeoff_figures,
    tradeoff_points,
)
from phaze_ee.results.benchmark import ExitBenchmark
from phaze_ee.results.project import Cost, ProjectResults
from tests.plots.drawn import line_named, points
from tests.plots.dynamic_examples import dynamic_results
from tests.plots.examples import MACS, benchmark_results, evaluation_results, project_results

ACCURACIES = (0.55, 0.68, 0.77, 0.78)


def markers(axes: Axes, marker: str) -> list[tuple[float, float]]:
    return [point for line in axes.get_lines() if line.get_marker() == marker for point in points(line)]


def legend_texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize("score", ["accuracy", "roc_auc"])
def test_line_holds_the_exits_in_order(score: Score) -> None:
    project = project_results("mine", ACCURACIES)
    axes = tradeoff_figure([project], "macs", score).axes[0]
    drawn = points(line_named(axes, "mine"))
    scores = [getattr(exit_, score) for exit_ in project.evaluation.exits.values()]
    np.testing.assert_array_equal(drawn, np.column_stack([MACS, scores]))
    assert axes.get_xscale() == "log"


def test_full_model_is_the_star_and_exits_are_circles() -> None:
    axes = tradeoff_figure([project_results("mine", ACCURACIES)], "macs", "accuracy").axes[0]
    assert markers(axes, "*") == [(MACS[-1], ACCURACIES[-1])]
    assert markers(axes, "o") == list(zip(MACS[:-1], ACCURACIES[:-1], strict=True))


def test_error_bars_are_the_accuracy_errors() -> None:
    project = project_results("mine", ACCURACIES)
    axes = tradeoff_figure([project], "macs", "accuracy").axes[0]
    (bars,) = [found for found in axes.containers if isinstance(found, ErrorbarContainer)]
    half = [(segment[1, 1] - segment[0, 1]) / 2 for segment in bars.lines[2][0].get_segments()]
    assert half == pytest.approx([exit_.accuracy_error for exit_ in project.evaluation.exits.values()])


def test_axis_says_whose_macs_and_for_how_many_particles() -> None:
    project = project_results()
    assert (
        tradeoff_figure([project], "flops", "accuracy").axes[0].get_xlabel()
        == "MACs per jet (weaver's counter), 128 particles"
    )
    assert tradeoff_figure([project], "macs", "accuracy").axes[0].get_xlabel() == "Exact MACs per jet, 128 particles"


def test_different_numbers_of_particles_are_named() -> None:
    small = ProjectResults("small", evaluation_results(ACCURACIES), benchmark_results(particles=64, scale=0.5))
    figure = tradeoff_figure([project_results("large", ACCURACIES), small], "macs", "accuracy")
    assert figure.axes[0].get_xlabel().endswith("64 or 128 particles")
    assert {"small (64 particles)", "large (128 particles)"} <= set(legend_texts(figure))


def test_projects_differ_in_colour_or_line() -> None:
    projects = [project_results(f"p{number}", [0.5 + number / 100, 0.7]) for number in range(15)]
    axes = tradeoff_figure(projects, "params", "accuracy").axes[0]
    lines = [line_named(axes, project.name) for project in projects]
    assert len({found.get_color() for found in lines[:10]}) == 10
    assert len({(found.get_color(), found.get_linestyle()) for found in lines}) == 15


def test_comparison_enlarges_all_full_models() -> None:
    close = [(0.52, 0.66, 0.768, 0.781), (0.53, 0.665, 0.769, 0.779)]
    figure = tradeoff_figure([project_results(f"p{i}", a) for i, a in enumerate(close)], "macs", "accuracy")
    low, high = figure.axes[1].get_ylim()
    left, right = figure.axes[1].get_xlim()
    assert low < 0.768 < 0.781 < high < 0.8
    assert MACS[1] < left < MACS[2] < MACS[3] < right


def test_the_enlarged_window_stays_in_the_panel() -> None:
    far = [(0.58, 0.57, 0.6, 0.61), (0.26, 0.25, 0.26, 0.36)]
    whole, near = tradeoff_figure([project_results(f"p{i}", a) for i, a in enumerate(far)], "macs", "accuracy").axes
    low, high = whole.get_ylim()
    assert low <= near.get_ylim()[0] < 0.36 < 0.61 < near.get_ylim()[1] <= high


def test_a_policy_that_offers_no_exit_costs_as_much_as_the_full_model() -> None:
    dynamic = dynamic_results()
    idle = {"thresholds": [inf] * 3, "exit_fractions": [0.0, 0.0, 0.0, 1.0]}
    none = dynamic.model_copy(update={"policy": dynamic.policy.model_copy(update=idle)})
    project = ProjectResults("mine", evaluation_results(ACCURACIES), benchmark_results(), none)
    costs: list[Cost] = ["macs", "flops", "params"]
    assert all(project.cost(POLICY, cost) == project.cost(FULL_MODEL, cost) for cost in costs)


def test_labels_of_exits_do_not_overlap() -> None:
    for accuracies in (ACCURACIES, (0.101, 0.099, 0.1, 0.68), (0.1, 0.1, 0.1, 0.1)):
        with hep_style():
            figure = tradeoff_figure([project_results("mine", accuracies)], "flops", "accuracy")
            figure.draw_without_rendering()
            boxes = [
                text.get_window_extent() for text in figure.axes[0].texts if text.get_text().startswith(("ex", "f"))
            ]
        assert len(boxes) == 4
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
        frame = figure.axes[0].bbox
        assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in boxes)


def test_missing_auc_leaves_its_figures_out() -> None:
    project = ProjectResults("one_class", evaluation_results(ACCURACIES, auc=None), benchmark_results())
    assert list(tradeoff_figures([project])) == ["flops_vs_accuracy", "params_vs_accuracy"]
    assert set(TRADEOFFS) == {"flops_vs_accuracy", "params_vs_accuracy", "flops_vs_auc", "params_vs_auc"}


def test_frontier_of_hand_made_points() -> None:
    found = [
        Point("", 1, 0.5, 0),
        Point("", 2, 0.4, 0),
        Point("", 3, 0.7, 0),
        Point("", 3, 0.6, 0),
        Point("", 9, 0.7, 0),
    ]
    assert pareto_frontier(found) == [found[0], found[2]]


def test_frontier_is_drawn_over_all_projects_as_steps() -> None:
    cheap, good = project_results("cheap", (0.3, 0.4), 0.1), project_results("good", (0.2, 0.9))
    frontier = line_named(tradeoff_figure([good, cheap], "macs", "accuracy").axes[0], "Pareto frontier")
    assert frontier.get_drawstyle() == "steps-post"
    assert [score for _, score in points(frontier)] == [0.3, 0.4, 0.9]


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 20)), min_size=1, max_size=30))
def test_no_point_beats_the_frontier(pairs: Sequence[tuple[int, int]]) -> None:
    every = [Point("", cost, score, 0) for cost, score in pairs]
    frontier = pareto_frontier(every)
    for point in every:
        assert any(best.cost <= point.cost and best.score >= point.score for best in frontier)
    for one, other in combinations(frontier, 2):
        assert one.cost < other.cost
        assert one.score < other.score


@pytest.mark.parametrize("score", ["accuracy", "roc_auc"])
def test_no_panel_shows_scores_above_one(score: Score) -> None:
    projects = [project_results(name, (0.97, 0.99, 0.998, 1.0)) for name in ("first", "second")]
    for axes in tradeoff_figure(projects, "macs", score).axes:
        assert axes.get_ylim()[1] <= 1


def test_the_policy_is_a_point_of_its_own() -> None:
    project = project_results()
    mixture = project.evaluation.exits["exit_1"]
    dynamic = dynamic_results().model_copy(update={"mixture": mixture})
    judged = dataclasses.replace(project, dynamic=dynamic)
    *exits, policy = tradeoff_points(judged, "macs", "accuracy")
    assert exits == tradeoff_points(project, "macs", "accuracy")
    shares = (0.4, 0.3, 0.2, 0.1)
    assert (policy.exit, policy.score) == ("policy", mixture.accuracy)
    assert policy.cost == pytest.approx(sum(share * point.cost for share, point in zip(shares, exits, strict=True)))
    assert tradeoff_points(judged, "params", "accuracy")[-1].cost == exits_of(project)[-1].params
    labels = [text.get_text() for text in tradeoff_figure([judged], "flops", "accuracy").legends[0].get_texts()]
    assert labels.count("policy") == 1
    assert "policy" not in [
        text.get_text() for text in tradeoff_figure([project], "flops", "accuracy").legends[0].get_texts()
    ]


def exits_of(project: ProjectResults) -> list[ExitBenchmark]:
    return list(project.benchmark.exits.values())
