"""The packed network with kernels, from ragged jets to logits, against weaver's module and the engine on the CPU."""

from typing import Any

import pytest
import torch

from phaze_ee.engine.engine import Engine
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.machine import Precision
from phaze_ee.types import JetInputs
from tests.jets import random_jets, small_tagger

COUNTS = (3, 30, 1, 0, 17, 5, 64)
CHANGES: dict[str, dict[str, Any]] = {
    "plain": {},
    "fusion": {"use_fusion": True},
    "uneven blocks": {"conv_params": [(3, (8, 5, 9)), (5, (9,)), (2, (16, 6))]},
}
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}


def float32(jets: JetInputs) -> JetInputs:
    return jets.map(lambda tensor: tensor.float() if tensor.is_floating_point() else tensor)


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES.keys())
def test_every_exit_is_weavers(changes: dict[str, Any], on_card: torch.device) -> None:
    tagger, jets = small_tagger(**changes), random_jets(COUNTS)
    with torch.no_grad():
        expected_ENK = tagger(jets)
        found_ENK = tagger.float().to(on_card).packed()(float32(jets).to(on_card).ragged())
    torch.testing.assert_close(found_ENK.cpu().double(), expected_ENK, **CLOSE)


def test_double_precision_runs_in_plain_torch_with_the_same_neighbours(on_card: torch.device) -> None:
    tagger, jets = small_tagger(), random_jets(COUNTS)
    with torch.no_grad():
        expected_ENK = tagger(jets)
        found_ENK = tagger.to(on_card).packed()(jets.to(on_card).ragged())
    torch.testing.assert_close(found_ENK.cpu(), expected_ENK, rtol=0, atol=1e-11)


def test_the_engine_takes_the_form_without_padding(on_card: torch.device) -> None:
    tagger, jets = small_tagger((0, 1)), random_jets(COUNTS)
    policy = ThresholdPolicy("confidence", [0.35, 0.4])
    expected = Engine(tagger, policy)(jets)
    tagger.float().to(on_card)
    engine = Engine(tagger, policy, chunk_size=4)
    found = engine(float32(jets).to(on_card)).cpu()
    assert engine.tagger.backbone.packs_particles
    assert len(set(expected.exit_index_N.tolist())) > 1
    assert torch.equal(found.exit_index_N, expected.exit_index_N)
    assert torch.equal(found.macs_N, expected.macs_N)
    torch.testing.assert_close(found.logits_NK.double(), expected.logits_NK, **CLOSE)


@torch.no_grad()
def test_each_block_is_the_kernels(on_card: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block that fits must not fall back to plain torch in silence."""
    monkeypatch.setattr("phaze_ee.models.particle_net.edge_conv.edge_conv_gpu", None)
    monkeypatch.setattr("phaze_ee.models.particle_net.edge_conv.edge_conv_cpu", None)
    monkeypatch.setattr("phaze_ee.models.particle_net.neighbours.in_groups", None)
    monkeypatch.setattr("phaze_ee.models.particle_net.loops.find_nearest", None)
    small_tagger().float().to(on_card).packed()(float32(random_jets(COUNTS)).to(on_card))


@torch.no_grad()
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_kernels_get_operands_of_the_precision(
    precision: Precision, on_card: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    from phaze_ee.kernels import edge_conv as kernel

    seen: list[torch.dtype] = []
    launch = kernel.edge_conv

    def watched(layers: kernel.EdgeLayers, *operands: Any, **how: Any) -> torch.Tensor:
        assert operands[0].dtype == layers.weight_LCC.dtype, "what a product has rounded is read as it is"
        seen.append(layers.weight_LCC.dtype)
        return launch(layers, *operands, **how)

    monkeypatch.setattr("phaze_ee.engine.engine.checked_precision", lambda precision, device: precision)
    monkeypatch.setattr(kernel, "edge_conv", watched)
    tagger, jets = small_tagger((0, 1)).float().to(on_card), float32(random_jets(COUNTS)).to(on_card)
    expected_ENK = Engine(tagger).every_exit(jets)
    assert set(seen) == {torch.float32}
    seen.clear()
    found_ENK = Engine(tagger, precision=precision).every_exit(jets)
    assert set(seen) == {getattr(torch, precision)}
    assert 0 < (found_ENK - expected_ENK).abs().max() < 5e-2 * expected_ENK.abs().max()
