from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.figure import Figure

from phaze_ee.plots.dynamic_tradeoff import (
    DynamicProject,
    Judged,
    Score,
    Series,
    accuracy_figure,
    cost_series,
    dynamic_figures,
    rejection_figure,
)
from phaze_ee.results.project import ProjectResults
from tests.plots.drawn import points
from tests.plots.dynamic_examples import dynamic_project, dynamic_results, timed_benchmark
from tests.plots.examples import MACS, benchmark_results, evaluation_results


def by_title(series: list[Series]) -> dict[str, Series]:
    return {one.title: one for one in series}


def test_everything_is_drawn_against_macs() -> None:
    series = by_title(list(cost_series(dynamic_project(), "macs")))
    assert list(series) == [
        "confidence", "margin", "all jets leave at one exit", "full model", "oracle", "label-free oracle",
        "policy (confidence)",
    ]  # fmt: skip
    assert [cost for cost, _ in series["all jets leave at one exit"].points] == pytest.approx(MACS[:-1])
    assert series["policy (confidence)"].points[0][0] == pytest.approx(0.4 * MACS[-1])
    assert [judged.accuracy for _, judged in series["oracle"].points] == [0.86]
    assert len(series["confidence"].points) == 3


def test_against_time_only_what_was_timed() -> None:
    series = by_title(list(cost_series(dynamic_project(), "time")))
    assert "oracle" not in series
    assert len(series["confidence"].points) == len(series["margin"].points) == 1
    assert [cost for cost, _ in series["all jets leave at one exit"].points] == [index + 1 / 256 for index in range(3)]
    assert series["policy (confidence)"].points[0][0] == 0.5


def test_a_time_of_another_policy_is_not_taken() -> None:
    results = dynamic_results()
    policy = results.policy.model_copy(update={"thresholds": [0.9, 0.9, 0.9]})
    project = DynamicProject(results.model_copy(update={"policy": policy}), timed_benchmark())
    assert by_title(list(cost_series(project, "time")))["policy (confidence)"].points == []


def test_static_rivals_are_their_full_models() -> None:
    rival = ProjectResults("small", evaluation_results((0.5, 0.6, 0.65, 0.7)), timed_benchmark())
    untimed = ProjectResults("untimed", evaluation_results((0.5, 0.6, 0.65, 0.7)), benchmark_results())
    project = DynamicProject(dynamic_results(), timed_benchmark(), [rival, untimed])
    series = by_title(list(cost_series(project, "macs")))
    assert [(cost, judged.accuracy) for cost, judged in series["small, static"].points] == [(2e8, 0.7)]
    assert series["untimed, static"].points == []
    assert by_title(list(cost_series(project, "time")))["small, static"].points[0][0] == 3 + 1 / 256


def test_figures_by_what_was_measured() -> None:
    assert list(dynamic_figures(dynamic_project())) == [
        "macs_vs_accuracy", "macs_vs_rejection", "time_vs_accuracy", "time_vs_rejection",
    ]  # fmt: skip
    assert list(dynamic_figures(dynamic_project(with_policies=False))) == ["macs_vs_accuracy", "macs_vs_rejection"]
    assert list(dynamic_figures(DynamicProject(dynamic_results(), benchmark_results()))) == [
        "macs_vs_accuracy", "macs_vs_rejection",
    ]  # fmt: skip


def test_the_axis_says_of_which_jets_the_times_are() -> None:
    times = timed_benchmark()
    assert times.latency is not None
    of_prior = times.model_copy(
        update={"latency": times.latency.model_copy(update={"class_shares": {"label_QCD": 1.0}})}
    )
    labels = []
    for benchmark in (times, of_prior):
        project = DynamicProject(dynamic_results(), benchmark)
        (axes,) = accuracy_figure(project, "time", list(cost_series(project, "time"))).axes
        labels.append(axes.get_xlabel())
    assert labels == [
        f"Median time per jet (ms), batches of 256\n{times.latency.conditions}",
        f"Median time per jet (ms), jets as in class_prior, batches of 256\n{times.latency.conditions}",
    ]


def test_accuracy_is_drawn_where_it_is() -> None:
    project = dynamic_project()
    axes = accuracy_figure(project, "macs", list(cost_series(project, "macs"))).axes[0]
    star, curve = (next(line for line in axes.get_lines() if line.get_marker() == marker) for marker in "*o")
    np.testing.assert_allclose(points(star), [(MACS[-1], 0.78)])
    np.testing.assert_allclose(points(curve), [(0.1 * n * MACS[-1], 0.6 + 0.02 * n) for n in (1, 3, 9)])
    assert axes.get_xscale() == "log"
    note = axes.texts[0].get_text().splitlines()
    assert [line.split(":")[0] for line in note] == ["oracle", "label-free oracle"]
    assert not [line for line in axes.get_lines() if str(line.get_marker()) in ("v", "^")]


def test_rejections_have_a_panel_each_and_limits_are_marked() -> None:
    project = dynamic_project()
    series = list(cost_series(project, "macs"))
    hbb, hcc = rejection_figure(project, "macs", series).axes
    assert hbb.get_ylabel() == "QCD rejection"
    assert "Hbb, 50 %" in [text.get_text() for text in hbb.texts]
    assert not [mark for line in hbb.get_lines() if line.get_marker() == "2" for mark in points(line)]
    limits = [height for line in hcc.get_lines() if line.get_marker() == "2" for _, height in points(line)]
    assert limits
    assert set(limits) == {500.0}
    low, high = hbb.get_ylim()
    assert 0.8 <= low < 550
    assert np.log10(high / low) < 1  # by the values, whatever the errors


def test_the_curve_of_the_policys_score_has_a_band_of_errors() -> None:
    project = dynamic_project()
    series = list(cost_series(project, "macs"))
    axes = accuracy_figure(project, "macs", series).axes[0]
    (band,) = (one for one in axes.collections if isinstance(one, FillBetweenPolyCollection))
    own = project.dynamic.curves[0].points
    ends = {(one.mean_macs, one.accuracy + sign * one.accuracy_error) for one in own for sign in (-1, 1)}
    assert ends <= set(map(tuple, np.asarray(band.get_paths()[0].vertices, dtype=float).tolist()))
    hbb, _ = rejection_figure(project, "macs", series).axes
    assert len([one for one in hbb.collections if isinstance(one, FillBetweenPolyCollection)]) == 1


def test_times_name_machine_and_threads() -> None:
    project = dynamic_project()
    axes = accuracy_figure(project, "time", list(cost_series(project, "time"))).axes[0]
    assert axes.get_xlabel().splitlines()[1] == "Epyc 1 (cpu), 1 thread, float32"


def test_a_panel_without_curves_says_why() -> None:
    project = dynamic_project()
    limits = project.dynamic.policy.rejections  # of Hcc
    hidden = cast(Judged, SimpleNamespace(accuracy=0.6, accuracy_error=0.01, rejections=limits))
    series = [one._replace(points=[(cost, hidden) for cost, _ in one.points]) for one in cost_series(project, "macs")]
    panels = rejection_figure(project, "macs", series).axes
    assert [any("no curve: fewer than 5" in text.get_text() for text in axes.texts) for axes in panels] == [False, True]


@pytest.mark.parametrize(("relative_error", "certain"), [(0.44, True), (0.46, False)])
def test_what_rests_on_fewer_than_five_background_jets_is_uncertain(relative_error: float, certain: bool) -> None:
    assert Score(120.0, 120 * relative_error).is_certain == certain


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_legend_names_only_what_is_drawn() -> None:
    results = dynamic_results()
    policy = results.policy.model_copy(update={"thresholds": [0.9, 0.9, 0.9]})
    untimed = ProjectResults("untimed", evaluation_results((0.5, 0.6, 0.65, 0.7)), benchmark_results())
    project = DynamicProject(results.model_copy(update={"policy": policy}), timed_benchmark(), [untimed])
    series = list(cost_series(project, "time"))
    names = legend(accuracy_figure(project, "time", series))
    assert "full model" in names
    assert not {"policy (confidence)", "untimed, static"} & set(names)
    limit = "limit (68 %): no background jet passes"
    assert limit in legend(rejection_figure(project, "time", series))
    sure = [
        one._replace(points=[(cost, judged) for cost, judged in one.points if judged.accuracy < 0.75]) for one in series
    ]
    assert limit not in legend(rejection_figure(project, "time", sure))
