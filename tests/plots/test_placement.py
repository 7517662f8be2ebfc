from matplotlib.text import Annotation

from phaze_ee.plots.placement import placement_figure
from tests.plots.drawn import line_named, points
from tests.plots.placement_examples import placement_results


def test_every_point_has_the_colour_of_its_number_of_exits() -> None:
    results = placement_results()
    axes = placement_figure(results).axes[0]
    for exits in (1, 2, 3):
        curves = [curve for curve in results.curves if len(curve[0].exit_stages) == exits]
        drawn = points(line_named(axes, "1 exit" if exits == 1 else f"{exits} exits"))
        assert drawn == [(one.macs_share, one.accuracy) for curve in curves for one in curve]


def test_the_sets_of_the_pareto_set_have_labels_where_they_begin() -> None:
    results = placement_results()
    axes = placement_figure(results).axes[0]
    first = {", ".join(map(str, one.exit_stages)): one for one in reversed(results.pareto)}
    labels = {text.get_text(): text.xy for text in axes.texts if isinstance(text, Annotation)}
    assert {name or "no exit": (one.macs_share, one.accuracy) for name, one in first.items()} == labels


def test_epsilon_does_not_widen_the_axis() -> None:
    wide = placement_results().model_copy(update={"epsilon": 0.6})
    low, _ = placement_figure(wide).axes[0].get_ylim()
    assert low > wide.full_model.accuracy - 0.6


def test_the_best_are_marked_and_named() -> None:
    results = placement_results()
    axes = placement_figure(results).axes[0]
    chosen = results.recommended
    assert points(line_named(axes, "recommended: 0, 1")) == [(chosen.macs_share, chosen.accuracy)]
    assert points(line_named(axes, "Pareto set")) == [(one.macs_share, one.accuracy) for one in results.pareto]
    names = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert names[:3] == ["1 exit", "2 exits", "3 exits"]


def test_a_network_where_no_exit_pays_is_drawn() -> None:
    results = placement_results()
    none = results.model_copy(update={"recommended": results.full_model, "pareto": [results.full_model]})
    assert points(line_named(placement_figure(none).axes[0], "recommended: no exit")) == [(1.0, 0.9)]
