import numpy as np
import pytest
from matplotlib.axes import Axes

from phaze_ee.plots.confusion import confusion_figure, row_percentages
from tests.plots.examples import evaluation_results


def numbers(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts if text.get_text().replace(".", "").isdigit()]


def test_rows_are_percentages_and_an_absent_class_is_nan() -> None:
    np.testing.assert_array_equal(row_percentages([[3, 1], [0, 0]]), [[75, 25], [np.nan, np.nan]])


@pytest.mark.parametrize("classes", [("QCD", "Top"), tuple(f"process_{number}" for number in range(20))])
def test_matrix_is_drawn_with_its_numbers(classes: tuple[str, ...]) -> None:
    evaluation = evaluation_results(classes=classes, jets=10_000)
    axes = confusion_figure(evaluation, ["full_model"]).axes[0]
    percent_KK = row_percentages(evaluation.exits["full_model"].confusion_matrix)
    np.testing.assert_array_equal(axes.images[0].get_array(), percent_KK)
    assert [label.get_text() for label in axes.get_yticklabels()] == list(classes)
    assert [label.get_text() for label in axes.get_xticklabels()] == list(classes)
    assert numbers(axes) == [f"{value:.1f}" for value in percent_KK.flat]


def test_one_panel_an_exit() -> None:
    evaluation = evaluation_results((0.5, 0.6, 0.7), ("QCD", "Top"))
    figure = confusion_figure(evaluation, list(evaluation.exits))
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == 3
    for axes, exit_ in zip(panels, evaluation.exits.values(), strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), row_percentages(exit_.confusion_matrix))


def test_class_without_jets_is_dashes() -> None:
    evaluation = evaluation_results((0.5,), ("QCD", "Top"))
    exit_ = evaluation.exits["full_model"].model_copy(update={"confusion_matrix": [[0, 0], [1, 3]]})
    evaluation = evaluation.model_copy(update={"exits": {"full_model": exit_}})
    axes = confusion_figure(evaluation, ["full_model"]).axes[0]
    assert [text.get_text() for text in axes.texts].count("–") == 2
    assert numbers(axes) == ["25.0", "75.0"]
