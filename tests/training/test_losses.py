"""Values of the exit losses, and which parameters each strategy trains."""

import math
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from phaze_ee.config.options import ExitOptions
from phaze_ee.models.tagger import Tagger
from phaze_ee.registry import loss_strategies
from phaze_ee.training.losses import ExitLoss, WorkingPoint, make_loss, regression_loss
from tests.jets import labelled_batch, small_tagger

BATCH = labelled_batch(12, dtype=torch.float64)
POINT = WorkingPoint(signal=1, background=0, efficiency=0.5, lost=0.01)


def exit_loss(strategy: str, exit_count: int = 3, **options: float) -> ExitLoss:
    return make_loss(strategy, ExitOptions.model_validate(options), POINT, exit_count)


def gradients_of_exit_losses(strategy: str) -> Tagger:
    """Return a tagger in which the exit losses alone, without the full model's, left gradients."""
    tagger, loss = small_tagger().train(), exit_loss(strategy)
    total: Any = loss(tagger(BATCH.inputs, detach=loss.detach), BATCH.label_N).sum()
    total.backward()
    return tagger


def trained(module: torch.nn.Module) -> set[str]:
    return {name for name, value in module.named_parameters() if value.grad is not None and value.grad.any()}


def all_parameters(module: torch.nn.Module) -> set[str]:
    return {name for name, _ in module.named_parameters()}


@pytest.mark.parametrize("strategy", loss_strategies())
def test_every_head_learns(strategy: str) -> None:
    heads = gradients_of_exit_losses(strategy).heads
    assert trained(heads) == all_parameters(heads)


@pytest.mark.parametrize("strategy", ["mimic_detached", "target_detached", "distill_detached", "reject_detached"])
def test_detached_strategies_train_nothing_but_heads(strategy: str) -> None:
    assert trained(gradients_of_exit_losses(strategy).backbone) == set()


@pytest.mark.parametrize("strategy", ["target_flow", "distill_flow", "reject_flow"])
def test_flow_to_a_fixed_target_trains_the_stages_before_an_exit_but_not_the_readout(strategy: str) -> None:
    backbone = gradients_of_exit_losses(strategy).backbone
    readout = {name for name in all_parameters(backbone) if name.startswith("mod.fc")}
    assert trained(backbone) == all_parameters(backbone) - readout


def test_mimic_flow_reaches_both_sides() -> None:
    backbone = gradients_of_exit_losses("mimic_flow").backbone
    assert trained(backbone) == all_parameters(backbone)


def test_mimic_flow_gradient_through_the_full_model_is_that_of_the_mean_squared_error() -> None:
    tagger = small_tagger([0])
    logits_ENK = tagger(BATCH.inputs).detach().requires_grad_()
    loss: Any = exit_loss("mimic_flow")(logits_ENK, BATCH.label_N).sum()
    loss.backward()
    assert logits_ENK.grad is not None
    exit_NK, full_NK = logits_ENK.detach()
    torch.testing.assert_close(logits_ENK.grad[0], 2 * (exit_NK - full_NK) / exit_NK.numel())
    torch.testing.assert_close(logits_ENK.grad[1], -logits_ENK.grad[0])


@pytest.mark.parametrize("strategy", ["mimic_detached", "mimic_flow"])
def test_mimic_is_the_mean_squared_difference_of_logits(strategy: str) -> None:
    logits_ENK = torch.tensor([[[1.0, 2.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]]])
    losses = exit_loss(strategy)(logits_ENK, torch.tensor([0, 1]))
    torch.testing.assert_close(losses, torch.tensor([5 / 4, 4 / 4]))


@pytest.mark.parametrize("strategy", ["target_detached", "target_flow"])
def test_target_is_the_cross_entropy(strategy: str) -> None:
    logits_ENK, label_N = torch.randn(3, 6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    losses = exit_loss(strategy)(logits_ENK, label_N)
    torch.testing.assert_close(losses, torch.stack([cross_entropy(logits_NK, label_N) for logits_NK in logits_ENK[:2]]))


@pytest.mark.parametrize("strategy", ["distill_detached", "distill_flow"])
def test_distillation_is_a_mean_of_cross_entropy_and_divergence(strategy: str) -> None:
    exit_NK, full_NK = torch.tensor([[1.0, 0.0], [3.0, 0.0]]), torch.tensor([[2.0, 0.0], [1.0, 4.0]])
    label_N, temperature = torch.tensor([1, 0]), 2.0
    losses = exit_loss(strategy, distill_weight=0.25, distill_temperature=temperature)(
        torch.stack([exit_NK, full_NK]), label_N
    )
    p_NK, q_NK = (full_NK / temperature).softmax(dim=-1), (exit_NK / temperature).softmax(dim=-1)
    divergence = (p_NK * (p_NK / q_NK).log()).sum() / 2
    expected = 0.75 * cross_entropy(exit_NK, label_N) + 0.25 * temperature**2 * divergence
    torch.testing.assert_close(losses, expected[None])


def test_distillation_at_its_ends_is_cross_entropy_or_ends_at_the_full_model() -> None:
    logits_NK, label_N = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    logits_ENK = torch.stack([torch.randn(6, 4), logits_NK, logits_NK])
    only_labels, only_target = (exit_loss("distill_flow", distill_weight=weight) for weight in (0.0, 1.0))
    torch.testing.assert_close(only_labels(logits_ENK, label_N), exit_loss("target_flow")(logits_ENK, label_N))
    toward_other, toward_itself = only_target(logits_ENK, label_N).tolist()
    assert toward_other > 0.01
    assert toward_itself == pytest.approx(0, abs=1e-6)


def test_the_temperature_hardly_changes_how_strongly_distillation_pulls() -> None:
    """T² makes up for the gradient's 1/T²: small differences of logits give nearly the same gradient at any T."""
    gradients = []
    for temperature in (5.0, 50.0):
        logits_ENK = torch.tensor([[[0.1, 0.0]], [[0.0, 0.1]]], dtype=torch.float64, requires_grad=True)
        loss: Any = exit_loss("distill_flow", distill_weight=1.0, distill_temperature=temperature)
        loss(logits_ENK, torch.tensor([0])).sum().backward()
        assert logits_ENK.grad is not None
        gradients.append(logits_ENK.grad[0])
    # It is T·(q - p), and a softmax of two logits is 1/2 + z/4T for a small difference z: (0.1 - -0.1)/4.
    torch.testing.assert_close(gradients[1], torch.tensor([[0.05, -0.05]], dtype=torch.float64), rtol=0.01, atol=0)
    torch.testing.assert_close(*gradients, rtol=0.01, atol=0)


def test_the_loss_of_targets_is_log_cosh_of_their_distance_in_spreads() -> None:
    value_NR, target_NR = torch.tensor([[3.0, 10.0], [0.0, -2.0]]), torch.tensor([[1.0, 10.0], [3.0, -1000.0]])
    spread_R = torch.tensor([2.0, 5.0])
    expected = (math.log(math.cosh(1.0)) + 0 + math.log(math.cosh(1.5)) + (998 / 5 - math.log(2))) / 4
    assert float(regression_loss(value_NR, target_NR, spread_R)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("strategy", loss_strategies())
def test_a_network_without_exits_has_no_exit_loss(strategy: str) -> None:
    loss = exit_loss(strategy, exit_count=0)
    assert loss(torch.zeros(1, 5, 4), torch.zeros(5, dtype=torch.long)).shape == (0,)


@pytest.mark.parametrize(
    ("strategy", "options", "title"),
    [
        ("mimic_flow", {}, "MSE to full model's logits"),
        ("target_flow", {}, "Cross-entropy"),
        ("distill_detached", {}, "0.5·CE + 0.5·KL"),
        ("reject_detached", {}, "0.8·BCE to full model + 0.2·rejection"),
        ("distill_detached", {"distill_weight": 0.3, "distill_temperature": 2.0}, "0.7·CE + 0.3·2²·KL"),
    ],
)
def test_a_loss_says_what_it_is(strategy: str, options: dict[str, float], title: str) -> None:
    assert make_loss(strategy, ExitOptions.model_validate(options), POINT).title == title
