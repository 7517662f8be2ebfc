"""ParticleNet in stages against weaver-core's own module."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from phaze_ee.models.particle_net.padded import ParticleNet
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import JetInputs
from tests.contracts.backbone import BackboneContract
from tests.jets import random_jets, small_weaver_network
from tests.published import published_network, real_jets


class TestParticleNet(BackboneContract):
    changes: dict[str, Any] = {}  # noqa: RUF012

    def backbone(self) -> ParticleNet:
        return ParticleNet(small_weaver_network(**self.changes))

    def reference(self, inputs: JetInputs) -> Tensor:
        logits: Tensor = small_weaver_network(**self.changes)(inputs.points, inputs.features, inputs.mask)
        return logits


class TestWithFusion(TestParticleNet):
    changes = {"use_fusion": True}  # noqa: RUF012


class TestWithoutInputBatchNorm(TestParticleNet):
    changes = {"use_fts_bn": False}  # noqa: RUF012


def test_published_network_equals_weaver_on_real_jets(shared_dir: Path) -> None:
    weaver_network = published_network(shared_dir, "kin")
    inputs, label_N = real_jets(shared_dir)
    inputs, label_N = inputs.select(torch.arange(60)), label_N[:60]
    with torch.no_grad():
        expected = weaver_network(inputs.points, inputs.features, inputs.mask)
        logits = Tagger(ParticleNet(weaver_network), [0, 1, 2]).eval()(inputs)[-1]
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    assert np.isclose((logits.argmax(dim=1) == label_N).double().mean(), 0.75, atol=0.1)


def test_every_length_from_1_to_128_equals_weaver(shared_dir: Path) -> None:
    weaver_network = published_network(shared_dir, "kin")
    inputs = random_jets([1, 2, 5, 15, 16, 17, 18, 40, 111, 112, 120, 127, 128], length=128, dtype=torch.float32)
    with torch.no_grad():
        expected = weaver_network(inputs.points, inputs.features, inputs.mask)
        logits = Tagger(ParticleNet(weaver_network), []).eval()(inputs)[-1]
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


def test_training_step_equals_weaver_with_its_trimming() -> None:
    ours = Tagger(ParticleNet(small_weaver_network(trim=True)), []).train()
    weaver_network = small_weaver_network(trim=True).train()
    for step in range(8):  # weaver's trimmer starts to trim after five calls, and draws random numbers then
        inputs = random_jets((3, 30, 17, 5, 12, 24), length=30, seed=step)
        torch.manual_seed(step)
        expected = weaver_network(inputs.points, inputs.features, inputs.mask)
        torch.manual_seed(step)
        logits = ours(inputs)[-1]
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-11)
    own, theirs = ours.backbone.state_dict(), weaver_network.state_dict()
    for name, value in theirs.items():
        torch.testing.assert_close(own[f"mod.{name}"], value, rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", ["kin", "kinpid", "full"])
def test_published_checkpoints_keep_their_keys(shared_dir: Path, kind: str) -> None:
    published = torch.load(shared_dir / "weights" / f"ParticleNet_{kind}.pt", map_location="cpu", weights_only=True)
    assert ParticleNet(published_network(shared_dir, kind)).state_dict().keys() == published.keys()


def test_half_precision_keeps_padding_away() -> None:
    network = small_weaver_network().float()
    inputs = random_jets((3, 8, 12), length=16, dtype=torch.float32)
    tagger = Tagger(ParticleNet(network), []).eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        half = tagger(inputs)[-1]
    torch.testing.assert_close(half.float(), tagger(inputs)[-1], rtol=0.1, atol=0.1)
