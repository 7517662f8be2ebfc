from phaze_ee.plots.placement import placement_figure
from tests.plots.drawn import line_named, points
from tests.plots.placement_examples import placement_results


def test_every_set_ends_at_the_full_model() -> None:
    results = placement_results()
    axes = placement_figure(results).axes[0]
    lines = [points(line) for line in axes.get_lines() if len(points(line)) == 4 and line.get_linestyle() == "-"]
    assert len(lines) == 7 + 1  # and the Pareto set
    assert all(line[-1] == (1.0, 0.9) for line in lines)


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
