import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.patches import StepPatch

from phaze_ee.plots.ood import ood_auroc_figure, ood_scores_figure
from tests.plots.drawn import points
from tests.plots.ood_examples import ood_results


def test_areas_of_each_score_and_the_policy_apart() -> None:
    axes = ood_auroc_figure(ood_results()).axes[0]
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert ticks == ["exit 0", "exit 1", "exit 2", "full model", "by the policy"]
    names = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert names == ["energy", "−max p", "disagreement", "disagreement so far"]
    marked = [container.lines[0] for container in axes.containers if isinstance(container, ErrorbarContainer)]
    areas = [[y for _, y in points(line)] for line in marked]
    assert areas[0] == pytest.approx([0.6, 0.65, 0.7, 0.75, 0.7])
    assert areas[3] == pytest.approx([0.65, 0.7, 0.75])
    joined = [len(points(line)) for line in axes.get_lines() if line.get_linestyle() == "-"]
    assert joined == [4, 4, 4, 3]


def test_a_network_without_exits_and_policy_is_drawn() -> None:
    results = ood_results(["full_model"], policy=False)
    assert [label.get_text() for label in ood_auroc_figure(results).axes[0].get_xticklabels()] == ["full model"]
    assert len([axes for axes in ood_scores_figure(results).axes if axes.axison]) == 3


def test_scores_of_both_samples_are_shares() -> None:
    figure = ood_scores_figure(ood_results(["exit_0", "full_model"]))
    drawn = [axes for axes in figure.axes if axes.axison]
    assert len(figure.axes) == 8
    assert len(drawn) == 7
    steps = [patch for patch in drawn[0].patches if isinstance(patch, StepPatch)]
    assert [np.asarray(step.get_data()[0]).tolist() for step in steps] == [[0.6, 0.4], [0.25, 0.75]]
    assert drawn[0].get_xlabel() == "energy, exit 0"
    assert "AUROC 0.600" in [text.get_text() for text in drawn[0].texts]
