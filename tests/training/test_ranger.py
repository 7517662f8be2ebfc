"""Ranger against weaver's, and resumed against uninterrupted."""

import torch
from torch import Tensor, nn
from weaver.utils.nn.optimizer.ranger import Ranger as WeaverRanger

from phaze_ee.engine.engine import Engine
from phaze_ee.training.optim import Ranger
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
