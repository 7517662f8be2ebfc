"""The figures of the exit-bias audit, and where classes leave."""

import numpy as np
import pytest

from phaze_ee.modes.plot import policy_figures
from phaze_ee.plots.audits import exit_histogram_figure, exit_rates_figure, mass_shapes_figure
from phaze_ee.results.project import ProjectResults
from phaze_ee.workspace import Project
from tests.plots.dynamic_examples import CLASSES, dynamic_results, mass_audit, timed_benchmark
from tests.plots.examples import evaluation_results


def test_histogram_has_a_bar_a_class_that_adds_up() -> None:
    axes = exit_histogram_figure(dynamic_results()).axes[0]
    bars = [patch for container in axes.containers for patch in container]
    assert len(bars) == len(CLASSES) * 4
    for index, total in enumerate((1, 1, 0)):  # the last class has no jets
        assert sum(bar.get_width() for bar in bars[index :: len(CLASSES)]) == pytest.approx(total)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["QCD", "Hbb", "Hcc"]
    widths = [f"{100 * bar.get_width():.0f} %" for bar in bars if bar.get_width() >= 0.06]
    assert sorted(text.get_text() for text in axes.texts if "%" in text.get_text()) == sorted(widths) != []


def test_rates_have_a_row_a_sample_and_a_column_an_observable() -> None:
    figure = exit_rates_figure(dynamic_results())
    assert len(figure.axes) == 4
    assert figure.axes[0].get_ylabel() == "Share leaving, all jets"
    assert figure.axes[2].get_ylabel() == "Share leaving, QCD"
    assert [axes.get_xlabel() for axes in figure.axes[2:]] == ["$p_T$ (GeV)", "Soft-drop mass (GeV)"]
    assert "Cramér's V = 0.12, p = 0.03" in [text.get_text() for text in figure.axes[0].texts]


def test_an_observable_that_one_sample_lacks_leaves_a_gap() -> None:
    results = dynamic_results()
    assert len(exit_rates_figure(results.model_copy(update={"exit_rates": results.exit_rates[:3]})).axes) == 3


@pytest.mark.parametrize(("passing", "text"), [(400, "JSD = 0.020"), (0, "no jet passes"), (9, "9 jets pass, too few")])
def test_mass_shapes_say_how_far_they_diverge(passing: int, text: str) -> None:
    figure = mass_shapes_figure(mass_audit(passing))
    labels = [label.get_text() for label in figure.legends[0].get_texts()]
    assert labels[0] == "no cut (10,000 jets)"
    assert all(text in label for label in labels[1:])
    assert figure.axes[1].get_xlabel() == "Soft-drop mass (GeV)"
    assert any(np.size(line.get_xdata()) > 1 for line in figure.axes[0].get_lines()) == (passing > 9)


@pytest.mark.parametrize("passing", [0, 9, 10])
def test_a_figure_without_any_shape_is_not_drawn(passing: int, capsys: pytest.CaptureFixture[str]) -> None:
    results = dynamic_results().model_copy(update={"mass": mass_audit(passing)})
    project_results = ProjectResults("mine", evaluation_results((0.5, 0.6, 0.65, 0.7)), timed_benchmark(), results)
    figures = policy_figures(Project("W", "mine"), project_results, [])
    assert ("mass_shapes" in figures) == (passing > 9)
    said = "No mass_shapes: fewer than 10 label_QCD jets pass the cut" in capsys.readouterr().out
    assert said == (passing < 10)
