import numpy as np
import pytest

from phaze_ee.plots.roc import FEWEST_BACKGROUND_JETS, rejection_curve, rejection_error, roc_figure
from phaze_ee.results.evaluation import EvaluationResults, RocCurve
from tests.plots.drawn import line_named, points
from tests.plots.examples import evaluation_results, roc_curve


def test_rejection_is_the_inverse_where_background_jets_are_enough() -> None:
    curve = RocCurve(
        signal="label_Top",
        background="label_QCD",
        signal_efficiency=[0.0, 0.2, 0.4, 0.6, 1.0],
        background_efficiency=[0.0, 0.04, 0.05, 0.5, 1.0],
    )
    signal, rejection = rejection_curve(curve, background_jets=100)
    np.testing.assert_array_equal(signal, [0.4, 0.6, 1.0])
    np.testing.assert_allclose(rejection, [20, 2, 1])


def test_the_error_of_a_rejection_is_binomial() -> None:
    error = rejection_error(np.array([1.0, 2.0, 20.0]), 100)
    efficiency, spread = 0.05, np.sqrt(0.05 * 0.95 / 100)
    np.testing.assert_allclose(error, [0, 2 * np.sqrt(1 / 100), 20 * spread / efficiency])


def test_one_panel_a_signal_and_one_line_an_exit() -> None:
    evaluation = evaluation_results((0.6, 0.7, 0.8), ("QCD", "Hbb", "Hcc", "Top"), jets=4_000)
    figure = roc_figure(evaluation)
    assert [axes.get_xlabel() for axes in figure.axes] == ["Hbb efficiency", "Hcc efficiency", "Top efficiency"]
    for axes in figure.axes:
        assert axes.get_yscale() == "log"
        assert axes.get_ylabel() == "QCD rejection"
        lines = {str(line.get_label()): line for line in axes.get_lines()}
        assert list(lines) == ["exit 1", "exit 2", "full model", "guessing"]
    curve = evaluation.exits["full_model"].roc_curves[0]
    expected = np.column_stack(rejection_curve(curve, 1_000))
    np.testing.assert_array_equal(points(line_named(figure.axes[0], "full model")), expected)


def test_region_of_few_background_jets_is_marked_and_empty() -> None:
    evaluation = evaluation_results((0.8,), ("QCD", "Top"), jets=2_000)
    axes = roc_figure(evaluation).axes[0]
    limit = 1_000 / FEWEST_BACKGROUND_JETS
    assert axes.patches[0].get_label() == "fewer than 5 QCD jets"
    assert axes.patches[0].get_extents().transformed(axes.transData.inverted()).y0 == pytest.approx(limit)
    assert max(rejection for _, rejection in points(line_named(axes, "full model"))) <= limit
    assert axes.get_ylim()[1] > limit


@pytest.mark.parametrize(("power", "lowest"), [(2.0, 0.0), (200.0, 0.9), (20.0, 0.7)])
def test_axis_begins_near_the_curves(power: float, lowest: float) -> None:
    evaluation = evaluation_results((0.8,), ("QCD", "Top"), jets=2_000)
    evaluation.exits["full_model"].roc_curves[:] = [roc_curve("label_Top", "label_QCD", power, 1_000)]
    axes = roc_figure(evaluation).axes[0]
    assert axes.get_xlim() == (lowest, 1)
    assert not any("no point" in text.get_text() for text in axes.texts)


def test_panel_says_which_curves_cannot_be_drawn() -> None:
    evaluation = evaluation_results((0.7, 0.8), ("QCD", "Top"), jets=2_000)
    perfect = RocCurve(
        signal="label_Top",
        background="label_QCD",
        signal_efficiency=[0.0, 1.0, 1.0],
        background_efficiency=[0.0, 0.0, 1.0],
    )
    evaluation.exits["full_model"].roc_curves[:] = [perfect]
    assert "full model:\nno point with ≥ 5 QCD jets" in written(evaluation)
    evaluation.exits["exit_2"].roc_curves[:] = [perfect]
    assert "no point with ≥ 5 QCD jets" in written(evaluation)


def written(evaluation: EvaluationResults) -> list[str]:
    return [text.get_text() for text in roc_figure(evaluation).axes[0].texts]
