"""A training step of the packed form against the padded form, which is weaver's."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from phaze_ee.config.options import ExitOptions
from phaze_ee.models.particle_net.padded import ParticleNet
from phaze_ee.models.tagger import Tagger
from phaze_ee.registry import loss_strategies
from phaze_ee.training.losses import WorkingPoint, make_loss
from tests.jets import CLASSES, random_jets, small_weaver_network

# With k = 4, jets of 26 to 29 particles have padded slots that see real particles.
HEADS = ("deep_sets", "linear", "deep_sets", "linear")
POINT = WorkingPoint(signal=1, background=0, efficiency=0.5, lost=0.01)
COUNTS = (3, 30, 29, 28, 27, 26, 25, 24, 0, 17, 5, 12)
CHANGES: dict[str, dict[str, Any]] = {
    "plain": {},
    "fusion": {"use_fusion": True},
    "without input normalisation": {"use_fts_bn": False},
    "average over padding": {"use_counts": False},
    "uneven blocks": {"conv_params": [(3, (8, 5, 9)), (5, (9,)), (2, (16, 6))]},
}


def tagger_in_training(*, packed: bool, trim: bool = False, **changes: Any) -> Tagger:
    backbone = ParticleNet(small_weaver_network(trim=trim, **changes))
    stages = ("input", *range(len(backbone.stage_channels)))
    tagger = Tagger(backbone, stages, HEADS[: len(stages)]).double()
    torch.manual_seed(5)
    for parameter in tagger.heads.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return (tagger.packed() if packed else tagger).train()


def train(tagger: Tagger, strategy: str, steps: int = 1) -> dict[str, Tensor]:
    """Run steps without updates; return losses, all gradients and the running statistics after the last."""
    exit_loss = make_loss(strategy, ExitOptions(), POINT, len(tagger.exit_stages))
    label_N = torch.arange(len(COUNTS)) % CLASSES
    seen: dict[str, Tensor] = {}
    for step in range(steps):
        inputs = random_jets(COUNTS, length=30, seed=step)
        torch.manual_seed(step)  # dropout, and weaver's trimming
        logits_ENK = tagger(inputs, detach=exit_loss.detach)
        loss = cross_entropy(logits_ENK[-1], label_N) + exit_loss(logits_ENK, label_N).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        seen[f"loss {step}"] = loss.detach()
    gradients = {name: parameter.grad for name, parameter in tagger.named_parameters() if parameter.grad is not None}
    return seen | {f"gradient of {name}": value for name, value in gradients.items()} | tagger.state_dict()


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        difference = float((value - right[name]).abs().max())
        assert difference <= 1e-9, f"{name} differs by {difference}"


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES.keys())
def test_step_equals_the_padded_form(changes: dict[str, Any]) -> None:
    padded, packed = (train(tagger_in_training(packed=packed, **changes), "target_flow") for packed in (False, True))
    assert_same(packed, padded)


@pytest.mark.parametrize("strategy", loss_strategies())
def test_every_strategy_equals_the_padded_form(strategy: str) -> None:
    padded, packed = (train(tagger_in_training(packed=packed), strategy) for packed in (False, True))
    assert_same(packed, padded)


def test_trimming_draws_and_drops_the_same_particles() -> None:
    # weaver's trimmer begins after five calls
    padded, packed = (train(tagger_in_training(packed=packed, trim=True), "target_flow", 8) for packed in (False, True))
    assert_same(packed, padded)


def test_ragged_jets_train_as_padded_to_the_longest() -> None:
    inputs = random_jets(COUNTS)
    padded, ragged = (tagger_in_training(packed=True), tagger_in_training(packed=True))
    torch.manual_seed(0)
    expected = padded(inputs)
    torch.manual_seed(0)
    torch.testing.assert_close(ragged(inputs.ragged()), expected, rtol=0, atol=1e-12)


def test_a_batch_without_particles_trains_as_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.models.particle_net.test_training.COUNTS", (0,) * len(COUNTS))
    losses = [train(tagger_in_training(packed=packed), "target_flow") for packed in (True, False)]
    assert_same(*losses)


def test_gradients_in_evaluation_mode_equal_the_padded_form() -> None:
    inputs = random_jets(COUNTS)
    gradients = []
    for packed in (False, True):
        tagger = tagger_in_training(packed=packed).eval()
        logits_ENK = tagger(inputs)
        gradients.append(torch.autograd.grad(logits_ENK.square().sum(), list(tagger.parameters())))
    for packed_gradient, padded_gradient in zip(*gradients, strict=True):
        torch.testing.assert_close(packed_gradient, padded_gradient, rtol=1e-9, atol=1e-9)


def test_evaluation_with_and_without_gradients_agree() -> None:
    tagger, inputs = tagger_in_training(packed=True).eval(), random_jets(COUNTS)
    differentiable = tagger(inputs)
    with torch.no_grad():
        torch.testing.assert_close(tagger(inputs), differentiable, rtol=0, atol=1e-11)
