import numpy as np
from matplotlib.text import Annotation

from phaze_ee.plots.differences import differences_figure
from phaze_ee.plots.placement import placement_figure
from phaze_ee.results.placement import PlacementPoint
from tests.plots.drawn import points
from tests.plots.placement_examples import placement_results
from tests.tables.test_differences import CLEAR, answer, differences


def test_each_answer_has_its_accuracy_and_its_difference_and_stars_are_claims() -> None:
    below = CLEAR.model_copy(update={"value": 0.003, "significant": False, "paired": False})
    figure = differences_figure(differences(answer("a", CLEAR), answer("b", below)))
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["strategy_mim…a_long_name", "a", "b"]
    starred = {text.get_text(): text.xy for text in right.texts if isinstance(text, Annotation)}
    assert starred == {"*": (100 * CLEAR.value, 1), "not the same jets": (0.3, 2)}
    bars = [bar.get_segments()[0] for bar in right.collections if hasattr(bar, "get_segments")]
    widths = [round(float(bar[1][0] - bar[0][0]), 6) for bar in bars]
    assert widths == [round(200 * CLEAR.jets_error, 6)] * 2
    drawn = [[accuracy for accuracy, _ in points(line)] for line in left.get_lines()]
    assert [accuracies for accuracies in drawn if len(accuracies) == 3] == [answer("a", None).seeds] * 3


def test_without_seeds_there_is_no_word_of_them() -> None:
    alone = CLEAR.model_copy(update={"spread": None})
    figure = differences_figure(differences(answer("a", alone, 0), seeds=0))
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert not any("seed" in text for text in texts)


def test_a_placement_has_a_panel_of_differences_if_they_are_known() -> None:
    results = placement_results()
    assert len(placement_figure(results).axes) == 1

    def known(point: PlacementPoint) -> PlacementPoint:
        update = {"difference": point.accuracy - 0.9, "difference_error": 0.003, "p_value": 0.01}
        return point.model_copy(update=update)

    chosen = known(results.recommended)
    front = [known(point) for point in results.pareto]
    axes = placement_figure(results.model_copy(update={"pareto": front, "recommended": chosen})).axes
    assert len(axes) == 2
    drawn = [points(line) for line in axes[1].get_lines() if line.get_marker() == "o"]
    expected = [(point.macs_share, 100 * (point.difference or 0)) for point in front]
    assert np.allclose(drawn[0], expected)
