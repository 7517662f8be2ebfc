"""Ragged batches train and answer bit for bit as weaver's padded tensors do, whose padding BatchNorm counts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from phaze_ee.data.loaders import evaluation_loader
from phaze_ee.engine.engine import Engine
from phaze_ee.models.backbone import Backbone
from phaze_ee.models.particle_flow_network import ParticleFlowNetwork
from phaze_ee.models.particle_net.packed import PackedParticleNet
from phaze_ee.models.particle_net.padded import ParticleNet
from phaze_ee.models.particle_next import ParticleNeXt
from phaze_ee.models.particle_transformer import ParticleTransformer
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import Jets, LoadedJets
from tests.data.small import jet_columns, schema, weaver_inputs
from tests.jetclass_files import write_root
from tests.jets import small_weaver_network

COUNTS = np.array([0, 1, 2, 12, 15, 3, 7, 11, 9, 4])  # P is 12
STEPS = 8  # weaver trims from the sixth on


def particle_net(kind: Callable[[Any], Backbone[Any]]) -> Backbone[Any]:
    return kind(small_weaver_network(input_dims=3, trim=True).float())


def particle_transformer() -> Backbone[Any]:
    small = {"embed_dims": [8, 8], "pair_embed_dims": [4], "num_heads": 2, "num_layers": 2, "num_cls_layers": 1}
    weaver = {"input_dim": 3, "num_classes": 4, "pair_input_dim": 4, "fc_params": [], "trim": True}
    return ParticleTransformer.from_arguments({**weaver, **small})


def particle_next() -> Backbone[Any]:
    small = {"node_dim": 8, "edge_dim": 4, "layer_params": [(4, 16, [(2, 1), (1, 1)], 16)] * 2, "fc_params": [(8, 0.0)]}
    return ParticleNeXt.from_arguments({"feature_input_dim": 3, "num_classes": 4, "trim": True, **small})


NETWORKS: dict[str, Callable[[], Backbone[Any]]] = {
    "packed": lambda: particle_net(PackedParticleNet),
    "padded": lambda: particle_net(ParticleNet),
    "transformer": particle_transformer,
    "next": particle_next,
    "flow": lambda: ParticleFlowNetwork(3, 4, particle_dims=(8, 8), jet_dims=(8,)),
}


def trained(make: Callable[[], Backbone[Any]], jets: Jets) -> tuple[list[float], Tagger]:
    """Return the losses of a few steps of training, and the tagger in evaluation mode."""
    torch.manual_seed(3)
    tagger = Tagger(make(), [0, 1]).train()
    optimizer = torch.optim.SGD(tagger.parameters(), lr=0.05)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss: Tensor = tagger(jets).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    return losses, tagger.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_training_and_answers_are_those_of_weavers_tensors(name: str, tmp_path: Path) -> None:
    path = write_root(tmp_path / "jets.root", jet_columns(len(COUNTS), particles=COUNTS))
    (batch,) = evaluation_loader(schema(), [path], batch_size=len(COUNTS))
    expected = weaver_inputs(path, schema(), len(COUNTS))
    assert isinstance(batch.inputs, LoadedJets)
    ours, theirs = trained(NETWORKS[name], batch.inputs), trained(NETWORKS[name], expected)
    assert ours[0] == theirs[0]
    assert len(set(ours[0])) == STEPS, "it does train"
    logits_NK, expected_NK = Engine(ours[1])(batch.inputs).logits_NK, Engine(theirs[1])(expected).logits_NK
    assert torch.equal(logits_NK, expected_NK)


def test_padding_counts_in_training(tmp_path: Path) -> None:
    """What the test above would miss if no network looked at the padding."""
    path = write_root(tmp_path / "jets.root", jet_columns(len(COUNTS), particles=np.minimum(COUNTS, 9)))
    (batch,) = evaluation_loader(schema(), [path], batch_size=len(COUNTS))
    longest = batch.inputs.padded(batch.inputs.ragged().used_length)
    assert trained(NETWORKS["packed"], longest)[0] != trained(NETWORKS["packed"], batch.inputs)[0]
