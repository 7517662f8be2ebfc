"""The walk, and what a tagger refuses."""

from typing import Any

import pytest
import torch

from phaze_ee.errors import UsageError
from phaze_ee.models.heads import EXIT_HEADS
from phaze_ee.models.particle_net.padded import ParticleNet
from phaze_ee.models.tagger import Tagger
from tests.jets import CLASSES, random_jets, small_tagger, small_weaver_network

JETS = random_jets((3, 8, 12, 5), length=12)


def test_forward_gives_every_exit_of_the_walk() -> None:
    tagger = small_tagger(["input", 0, 2])
    exits = list(tagger.walk(JETS))
    assert [exit_.stage for exit_ in exits] == ["input", 0, 2, None]
    assert tagger.exit_names == ("exit_0", "exit_1", "exit_2", "full_model")
    torch.testing.assert_close(tagger(JETS), torch.stack([exit_.logits_NK for exit_ in exits]))
    assert tagger(JETS).shape == (4, 4, CLASSES)


def test_detached_exits_leave_the_backbone_alone() -> None:
    tagger = small_tagger(["input", 0, 2])
    tagger(JETS, detach=True)[:-1].sum().backward()
    assert all(value.grad is None or not value.grad.any() for value in tagger.backbone.parameters())
    tagger(JETS)[:-1].sum().backward()
    assert any(value.grad is not None and value.grad.any() for value in tagger.backbone.parameters())


def test_stages_behind_an_exit_are_not_computed() -> None:
    tagger = small_tagger([0, 1])
    calls: list[int] = []
    backbone: Any = tagger.backbone
    for index, block in enumerate(backbone.mod.edge_convs):
        block.register_forward_hook(lambda *_, index=index: calls.append(index))
    next(tagger.walk(JETS))
    assert calls == [0]


def test_the_walk_ends_when_no_jet_goes_on() -> None:
    walk = small_tagger().walk(JETS)
    next(walk)
    with pytest.raises(StopIteration):
        walk.send(torch.zeros(4, dtype=torch.bool))


def test_exits_do_not_change_the_full_model() -> None:
    torch.testing.assert_close(small_tagger([])(JETS)[-1], small_tagger(["input", 0, 1, 2])(JETS)[-1], rtol=0, atol=0)


@pytest.mark.parametrize("stages", [[3], [-1], ["output"], [1, 0], [0, 0], [0, "input"]])
def test_impossible_exit_stages_are_refused(stages: list[Any]) -> None:
    with pytest.raises(UsageError, match="exit_stages"):
        small_tagger(stages)


def test_an_unknown_head_is_refused() -> None:
    for unknown in ("lineal", ["lineal"]):
        with pytest.raises(UsageError, match="unknown exit_head 'lineal'; choose from linear"):
            Tagger(ParticleNet(small_weaver_network()), [0], unknown)


def test_each_exit_may_have_a_head_of_its_own() -> None:
    tagger = Tagger(ParticleNet(small_weaver_network()), ["input", 1], ["deep_sets", "linear"])
    assert [type(head) for head in tagger.heads] == [EXIT_HEADS["deep_sets"], EXIT_HEADS["linear"]]
    with pytest.raises(UsageError, match="exit_head has 2 names for 3 exits; give one name, or one per exit"):
        Tagger(ParticleNet(small_weaver_network()), ["input", 0, 1], ["deep_sets", "linear"])


@pytest.mark.parametrize("head", EXIT_HEADS)
def test_heads_see_real_particles_only(head: str) -> None:
    tagger = Tagger(ParticleNet(small_weaver_network()), ["input", 0, 1, 2], head).double().eval()
    longer = JETS.map(lambda tensor: torch.nn.functional.pad(tensor, (0, 9)))
    torch.testing.assert_close(tagger(JETS), tagger(longer))
