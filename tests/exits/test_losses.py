"""Values of the exit losses, and which parameters each strategy trains."""

from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from phaze_ee.exits.losses import EXIT_LOSSES
from phaze_ee.models.tagger import Tagger
from tests.jets import labelled_batch, small_tagger

BATCH = labelled_batch(12, dtype=torch.float64)


def gradients_of_exit_losses(strategy: str) -> Tagger:
    """Return a tagger in which the exit losses alone, without the full model's, left gradients."""
    tagger, loss = small_tagger().train(), EXIT_LOSSES[strategy]
    total: Any = loss(tagger(BATCH.inputs, detach=loss.detach), BATCH.label_N).sum()
    total.backward()
    return tagger


def trained(module: torch.nn.Module) -> set[str]:
    return {name for name, value in module.named_parameters() if value.grad is not None and value.grad.any()}


def all_parameters(module: torch.nn.Module) -> set[str]:
    return {name for name, _ in module.named_parameters()}


@pytest.mark.parametrize("strategy", EXIT_LOSSES)
def test_every_head_learns(strategy: str) -> None:
    heads = gradients_of_exit_losses(strategy).heads
    assert trained(heads) == all_parameters(heads)


@pytest.mark.parametrize("strategy", ["mimic_detached", "target_detached"])
def test_detached_strategies_train_nothing_but_heads(strategy: str) -> None:
    assert trained(gradients_of_exit_losses(strategy).backbone) == set()


def test_target_flow_trains_the_stages_before_an_exit_but_not_the_readout() -> None:
    backbone = gradients_of_exit_losses("target_flow").backbone
    readout = {name for name in all_parameters(backbone) if name.startswith("mod.fc")}
    assert trained(backbone) == all_parameters(backbone) - readout


def test_mimic_flow_reaches_both_sides() -> None:
    backbone = gradients_of_exit_losses("mimic_flow").backbone
    assert trained(backbone) == all_parameters(backbone)


def test_mimic_flow_gradient_through_the_full_model_is_that_of_the_mean_squared_error() -> None:
    tagger = small_tagger([0])
    logits_ENK = tagger(BATCH.inputs).detach().requires_grad_()
    loss: Any = EXIT_LOSSES["mimic_flow"](logits_ENK, BATCH.label_N).sum()
    loss.backward()
    assert logits_ENK.grad is not None
    exit_NK, full_NK = logits_ENK.detach()
    torch.testing.assert_close(logits_ENK.grad[0], 2 * (exit_NK - full_NK) / exit_NK.numel())
    torch.testing.assert_close(logits_ENK.grad[1], -logits_ENK.grad[0])


@pytest.mark.parametrize("strategy", ["mimic_detached", "mimic_flow"])
def test_mimic_is_the_mean_squared_difference_of_logits(strategy: str) -> None:
    logits_ENK = torch.tensor([[[1.0, 2.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]]])
    losses = EXIT_LOSSES[strategy](logits_ENK, torch.tensor([0, 1]))
    torch.testing.assert_close(losses, torch.tensor([5 / 4, 4 / 4]))


@pytest.mark.parametrize("strategy", ["target_detached", "target_flow"])
def test_target_is_the_cross_entropy(strategy: str) -> None:
    logits_ENK, label_N = torch.randn(3, 6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    losses = EXIT_LOSSES[strategy](logits_ENK, label_N)
    torch.testing.assert_close(losses, torch.stack([cross_entropy(logits_NK, label_N) for logits_NK in logits_ENK[:2]]))


@pytest.mark.parametrize("strategy", EXIT_LOSSES)
def test_a_network_without_exits_has_no_exit_loss(strategy: str) -> None:
    assert EXIT_LOSSES[strategy](torch.zeros(1, 5, 4), torch.zeros(5, dtype=torch.long)).shape == (0,)
