import pytest
from matplotlib.axes import Axes

from phaze_ee.plots.curves import accuracy_figure, loss_figure
from tests.plots.drawn import points
from tests.plots.examples import training_history


def drawn(axes: Axes, style: str) -> list[list[tuple[float, float]]]:
    return [points(line) for line in axes.get_lines() if line.get_linestyle() == style and points(line)]


def test_accuracies_are_drawn_where_they_were_measured() -> None:
    history = training_history(epochs=12, val_interval=3)
    axes = accuracy_figure(history).axes[0]
    for index in range(4):
        assert drawn(axes, "--")[index] == [
            (record.epoch + 1, record.train_accuracy[index]) for record in history.epochs
        ]
        validated = [record for record in history.epochs if record.val_accuracy is not None]
        assert [epoch for epoch, _ in drawn(axes, "-")[index]] == [3, 6, 9, 12]
        assert drawn(axes, "-")[index][-1][1] == (validated[-1].val_accuracy or [])[index]


def test_beta_has_a_panel_of_its_own() -> None:
    history = training_history()
    axes = loss_figure(history).axes[-1]
    assert axes.get_ylabel() == "β"
    assert [line[-1][1] for line in drawn(axes, "-")] == pytest.approx([0.3, 0.5, 1.0])


def test_equal_betas_are_one_line() -> None:
    history = training_history()
    records = [record.model_copy(update={"beta": [0.2] * 3}) for record in history.epochs]
    axes = loss_figure(history.model_copy(update={"epochs": records})).axes[-1]
    assert drawn(axes, "-") == [[(epoch, 0.2) for epoch in range(1, 13)]]
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["all exits"]
    assert loss_figure(history).axes[-1].get_legend() is None


def test_losses_of_two_kinds_do_not_share_an_axis() -> None:
    assert [axes.get_ylabel() for axes in loss_figure(training_history("target_flow")).axes] == ["Cross-entropy", "β"]
    cross_entropy, distance, _ = loss_figure(training_history("mimic_flow")).axes
    assert len(drawn(cross_entropy, "--")) == 1
    assert len(drawn(distance, "--")) == 3


def test_single_epoch_is_visible() -> None:
    axes = loss_figure(training_history(epochs=1)).axes[0]
    assert all(line.get_marker() == "o" for line in axes.get_lines() if points(line))


def test_an_exit_loss_that_is_no_cross_entropy_has_its_name_on_its_axis() -> None:
    history = training_history("distill_detached").model_copy(update={"exit_loss": "0.5·CE + 0.5·KL"})
    evaluated = {"exit_0": 1.4, "exit_1": 1.2, "exit_2": 1.1, "full_model": 1.0}
    full, exits, _ = loss_figure(history, evaluated).axes
    assert (full.get_ylabel(), exits.get_ylabel()) == ("Cross-entropy", "Exit loss:\n0.5·CE + 0.5·KL")
    diamonds = [points(line) for line in full.get_lines() if line.get_marker() == "D" and points(line)]
    assert [score for ((_, score),) in diamonds] == [1.4, 1.2, 1.1, 1.0]
    assert all(place > history.epochs[-1].epoch + 1 for ((place, _),) in diamonds)
    # A file of version 0.1 says the strategy alone.
    assert loss_figure(training_history("distill_flow")).axes[1].get_ylabel() == "Exit loss:\nCE + KL to full model"


def test_a_loss_of_targets_is_named_and_has_no_cross_entropies_beside_it() -> None:
    losses = {"exit_loss": "0.5·CE + 0.5·KL + 1·log cosh", "full_loss": "Cross-entropy + 1·log cosh"}
    history = training_history("distill_detached").model_copy(update=losses)
    figure = loss_figure(history, {"exit_0": 1.4, "full_model": 1.0})
    assert [axes.get_ylabel() for axes in figure.axes[:2]] == [
        losses["full_loss"],
        f"Exit loss:\n{losses['exit_loss']}",
    ]
    assert not any(line.get_marker() == "D" for axes in figure.axes for line in axes.get_lines())
    alike = history.model_copy(update={"exit_loss": losses["full_loss"]})
    assert [axes.get_ylabel() for axes in loss_figure(alike).axes] == [losses["full_loss"], "β"]
