"""Trimming in training: weaver's particles from weaver's random numbers, with one number read from the device."""

from typing import Any

import pytest
import torch
from torch import Tensor
from weaver.nn.model.ParticleTransformer import SequenceTrimmer

from phaze_ee.models.particle_net.padded import ParticleNet
from phaze_ee.models.weaver import trim
from phaze_ee.types import JetInputs, LoadedJets, Padding
from tests.jets import random_jets, small_weaver_network
from tests.models.test_packed_transformer import with_holes
from tests.test_transfer import Transfers

JETS = {
    "usual": random_jets((3, 30, 17, 5, 12, 24), length=34),
    "empty ones": random_jets((0, 2, 0), length=5),
    "none has particles": random_jets((0, 0), length=4),
    "holes": with_holes(),
    "longer than 32": random_jets((40, 7, 70, 33), length=80),
}
OPTIONS: list[dict[str, Any]] = [{}, {"target": (0.3, 0.6)}, {"round_to_32": True, "num_extra_tokens": 1}]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("jets", JETS.values(), ids=JETS.keys())
def test_the_particles_are_weavers(jets: JetInputs, options: dict[str, Any]) -> None:
    own, theirs = (SequenceTrimmer(enabled=True, **options).train() for _ in range(2))
    for step in range(8):  # it begins after five calls
        torch.manual_seed(step)
        features, vectors, mask, _ = theirs(jets.features, jets.vectors, jets.mask)
        torch.manual_seed(step)
        found, particles = trim(jets, own, training=True, minimum_length=1)
        assert torch.equal(found.features, features)
        assert found.vectors is not None
        assert torch.equal(found.vectors, vectors)
        assert torch.equal(found.valid_N1P, mask)
        assert particles is None if step < 5 else particles == int(mask.sum())


@pytest.mark.parametrize("jets", JETS.values(), ids=JETS.keys())
def test_particles_of_a_known_number_are_the_same(jets: JetInputs) -> None:
    expected, found = jets.ragged(), jets.ragged(int(jets.particle_count_N.sum()))
    assert torch.equal(found.features_VC, expected.features_VC)
    assert torch.equal(found.points_V2, expected.points_V2)
    assert torch.equal(found.particle_count_N, expected.particle_count_N)


@pytest.mark.parametrize("trims", [False, True])
def test_embedding_needs_no_other_number_of_the_device(trims: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device without memory takes the place of a card: it has no numbers to read, and copies to it are counted."""
    network = small_weaver_network(trim=trims, use_fts_bn=False)  # statistics have no form for this device
    backbone = ParticleNet(network).packed().train().to("meta")
    trimmer: Any = backbone.mod.trimmer
    trimmer.past_its_first_calls = True
    read: list[Tensor] = []

    def numbers(tensor: Tensor) -> list[int]:
        read.append(tensor)
        return [12, 24]

    monkeypatch.setattr("phaze_ee.models.weaver._read", numbers)
    rows = random_jets((3, 13, 9)).ragged()
    fills = {"points": (0.0,), "features": tuple(map(float, range(7))), "vectors": None}
    padding = Padding(16, fills)
    jets = LoadedJets(rows.points_V2, rows.features_VC, rows.vectors_V4, rows.particle_count_N, padding).to("meta")
    backbone.embed(jets)  # constants are copied once
    read.clear()
    with Transfers() as transfers:
        state = backbone.embed(jets)
    assert (len(read), transfers.count) == (int(trims), 0)
    assert (len(state.features_VC), state.length) == ((24, 12) if trims else (25, 16))
