"""Ranger against weaver's, and resumed against uninterrupted."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from weaver.utils.nn.optimizer.radam import RAdam
from weaver.utils.nn.optimizer.ranger import Ranger as WeaverRanger

from phaze_ee.engine.engine import Engine
from phaze_ee.training.ranger import JoinedRAdam, Ranger
from tests.jets import random_jets, small_tagger

STEPS = 17  # not a multiple of Lookahead's 6
STOP = 8


def network() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(5, 3)


def groups(module: nn.Module) -> list[dict[str, object]]:
    return [{"params": list(module.parameters()), "weight_decay": 0.01}]


def train(module: nn.Linear, optimizer: torch.optim.Optimizer, steps: range) -> Tensor:
    for step in steps:
        inputs = torch.randn(4, 5, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        module(inputs).square().sum().backward()
        optimizer.step()
    return module.weight.detach()


def test_takes_weavers_steps() -> None:
    ours, weavers = network(), network()
    expected = train(weavers, WeaverRanger(groups(weavers), lr=0.1), range(STEPS))
    assert torch.equal(train(ours, Ranger(groups(ours), lr=0.1), range(STEPS)), expected)


def test_goes_on_from_its_state_as_if_it_had_never_stopped() -> None:
    whole, stopped, resumed = network(), network(), network()
    expected = train(whole, Ranger(groups(whole), lr=0.1), range(STEPS))
    optimizer = Ranger(groups(stopped), lr=0.1)
    train(stopped, optimizer, range(STOP))
    resumed.load_state_dict(stopped.state_dict())
    again = Ranger(groups(resumed), lr=0.1)
    again.load_state_dict(optimizer.state_dict())
    assert torch.equal(train(resumed, again, range(STOP, STEPS)), expected)


def test_the_state_is_not_changed_by_later_steps() -> None:
    module = network()
    optimizer = Ranger(groups(module), lr=0.1)
    state = optimizer.state_dict()
    before = state["lookahead"]["slow"][0].clone()
    train(module, optimizer, range(STEPS))
    assert torch.equal(state["lookahead"]["slow"][0], before)


def test_an_engine_notices_its_steps() -> None:
    """Also with normalisations in evaluation, whose statistics do not change."""
    tagger, jets = small_tagger(), random_jets((3, 9))
    engine = Engine(tagger)
    before = engine(jets).logits_NK
    tagger(jets).square().sum().backward()
    Ranger([{"params": list(tagger.parameters()), "weight_decay": 0.0}], lr=0.1).step()
    after = engine(jets).logits_NK
    assert not torch.allclose(after, before)
    assert torch.equal(after, Engine(tagger)(jets).logits_NK)


def trained_in_parts(
    kind: type[torch.optim.Optimizer], dtype: torch.dtype, device: torch.device | str = "cpu"
) -> list[Tensor]:
    """Train with and without weight decay, by a closure, and one layer only in each third step."""
    torch.manual_seed(0)
    layers = nn.ModuleList([nn.Linear(5, 4), nn.Linear(4, 3), nn.Linear(4, 3)]).to(device, dtype)
    vectors, matrices = ([weight for weight in layers.parameters() if weight.ndim == ndim] for ndim in (1, 2))
    decays = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer: Any = kind(decays, lr=0.1, betas=(0.95, 0.999), eps=1e-5)  # type: ignore[call-arg]

    def loss_of(step: int) -> Tensor:
        optimizer.zero_grad()
        inputs = torch.randn(4, 5, generator=torch.Generator().manual_seed(step), dtype=dtype).to(device)
        loss: Tensor = layers[1 + int(step % 3 == 0)](layers[0](inputs)).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    for step in range(STEPS):
        assert optimizer.step(partial(loss_of, step)).requires_grad
    return list(layers.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_joined_steps_are_weavers(dtype: torch.dtype) -> None:
    found, expected = (trained_in_parts(kind, dtype) for kind in (JoinedRAdam, RAdam))
    assert all(map(torch.equal, found, expected))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_joined_steps_on_cuda_are_weavers() -> None:
    found, expected = (trained_in_parts(kind, torch.float32, "cuda") for kind in (JoinedRAdam, RAdam))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
