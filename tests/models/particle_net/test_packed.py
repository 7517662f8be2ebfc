"""The packed form of ParticleNet against weaver-core's own module, in inference."""

from collections.abc import Callable
from operator import add
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from phaze_ee.models.particle_net.edge_conv import edge_conv_cpu, edge_conv_gpu, particle_parts
from phaze_ee.models.particle_net.folding import fold
from phaze_ee.models.particle_net.neighbours import nearest_neighbours
from phaze_ee.models.particle_net.packed import PackedParticleNet
from phaze_ee.models.particle_net.padded import ParticleNet
from phaze_ee.models.states import fit_length
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import JetInputs
from tests.jets import random_jets, small_tagger, small_weaver_network
from tests.models.particle_net.test_padded import TestParticleNet
from tests.published import published_network, real_jets

UNEVEN: dict[str, Any] = {"conv_params": [(3, (8, 5, 9)), (5, (9,)), (2, (16, 6))], "use_fusion": True}


class TestPackedParticleNet(TestParticleNet):
    def backbone(self) -> Any:
        return PackedParticleNet(small_weaver_network(**self.changes)).eval()


class TestPackedWithFusion(TestPackedParticleNet):
    changes = {"use_fusion": True}  # noqa: RUF012


class TestPackedWithoutInputBatchNorm(TestPackedParticleNet):
    changes = {"use_fts_bn": False}  # noqa: RUF012


class TestPackedWithUnevenBlocks(TestPackedParticleNet):
    """Blocks of one, two and three layers, with and without a shortcut layer, and with different k."""

    changes = UNEVEN


def test_average_over_padding_equals_the_padded_form() -> None:
    tagger = small_tagger(use_counts=False)
    inputs = random_jets((3, 30, 17, 0), length=40)
    with torch.no_grad():
        torch.testing.assert_close(tagger.packed()(inputs), tagger(inputs), rtol=0, atol=1e-12)


def first_particles(inputs: JetInputs, count_N: Tensor) -> JetInputs:
    """Keep so many of each jet's particles; a jet that has fewer keeps all."""
    valid = inputs.valid_N1P & (torch.arange(inputs.mask.shape[-1]) < count_N[:, None, None])
    return inputs.map(lambda tensor: tensor.masked_fill(~valid, 0))


def crowded_jets(inputs: JetInputs, count_N: Tensor) -> JetInputs:
    """Jets with so many particles, drawn from all real ones, so that kinematics stay realistic."""
    particles = inputs.ragged()
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randperm(len(particles.features_VC), generator=generator)[:count] for count in count_N.tolist()]
    points, features = (
        torch.stack([nn.functional.pad(rows[index].T, (0, 128 - len(index))) for index in drawn])
        for rows in (particles.points_V2, particles.features_VC)
    )
    mask = (torch.arange(128) < count_N[:, None])[:, None].to(features.dtype)
    return JetInputs(points, features, None, mask)


REAL: dict[str, Callable[[JetInputs], JetInputs]] = {
    "as they are": lambda jets: jets,
    "1 to 20 particles": lambda jets: first_particles(jets.select(torch.arange(60)), torch.arange(60) % 20 + 1),
    "all tiny, one empty": lambda jets: first_particles(jets.select(torch.arange(12)), torch.arange(12) % 4),
    "112 to 128 particles": lambda jets: crowded_jets(jets, torch.arange(112, 129)),
    "one jet": lambda jets: jets.select(torch.tensor([7])),
}


# Tiny jets are far from what the network was trained on, and have logits up to 65. There weaver's own rounding in
# float32 reaches 9e-5, so the relative term is needed; elsewhere logits are below 15 and the absolute one decides.
TOLERANCES: dict[torch.dtype, Any] = {
    torch.float64: {"rtol": 0.0, "atol": 1e-12},
    torch.float32: {"rtol": 2e-6, "atol": 5e-5},
}


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("kind", REAL)
def test_published_network_equals_weaver_on_real_jets(shared_dir: Path, kind: str, dtype: torch.dtype) -> None:
    network = published_network(shared_dir, "kin").to(dtype)
    jets = REAL[kind](real_jets(shared_dir)[0].select(torch.arange(60))).map(lambda tensor: tensor.to(dtype))
    jets = fit_length(jets, 17)  # weaver needs k + 1 slots
    with torch.no_grad():
        logits = Tagger(PackedParticleNet(network).eval(), [])(jets)[-1]
        expected = network(jets.points, jets.features, jets.mask)
    torch.testing.assert_close(logits, expected, **TOLERANCES[dtype])


def test_no_jet_gives_no_answer() -> None:
    with torch.no_grad():
        assert small_tagger().packed()(random_jets((), length=20)).shape == (4, 0, 4)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(0, 2**31))
def test_ragged_jets_give_the_same_answer(counts: list[int], seed: int) -> None:
    padded = random_jets(counts, length=45, seed=seed)
    tagger = small_tagger().packed()
    with torch.no_grad():
        expected = tagger(padded)
        torch.testing.assert_close(tagger(padded.ragged()), expected, rtol=0, atol=0)
        torch.testing.assert_close(tagger(padded.ragged().padded()), expected, rtol=0, atol=0)
        torch.testing.assert_close(small_tagger()(padded.ragged()), expected, rtol=0, atol=1e-11)


def test_holes_in_the_mask_do_not_matter() -> None:
    inputs = random_jets((20, 25), length=30)
    holes = inputs.map(lambda tensor: torch.cat([torch.zeros_like(tensor[..., :7]), tensor], dim=-1).roll(3, dims=-1))
    with torch.no_grad():
        tagger = small_tagger().packed()
        torch.testing.assert_close(tagger(holes), tagger(inputs), rtol=0, atol=1e-12)


def test_a_particle_is_not_its_own_neighbour_where_points_coincide() -> None:
    inputs = random_jets((20, 12), length=20)
    inputs.points[0, :, 1] = inputs.points[0, :, 0]
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tagger = small_tagger().packed()
        torch.testing.assert_close(
            tagger(inputs), tagger(inputs.map(lambda tensor: tensor[..., order])), rtol=0, atol=1e-12
        )


def change_in_place(network: nn.Module) -> None:
    with torch.no_grad():
        next(network.parameters()).mul_(1.5)


def load_other_weights(network: nn.Module) -> None:
    network.load_state_dict(small_weaver_network(seed=9).state_dict())


@pytest.mark.parametrize("change", [change_in_place, load_other_weights, lambda network: network.bfloat16().double()])
def test_folded_weights_follow_the_parameters(change: Callable[[nn.Module], Any]) -> None:
    network = small_weaver_network()
    tagger = Tagger(ParticleNet(network), [0]).double().eval()
    packed, inputs = tagger.packed(), random_jets((3, 30, 17))
    with torch.no_grad():
        before = packed(inputs)
        change(network)
        assert not torch.equal(packed(inputs), before)
        torch.testing.assert_close(packed(inputs), tagger(inputs), rtol=0, atol=1e-11)


class Forgetful(PackedParticleNet):
    """Forgets what it has folded at once, as if another thread had found that the weights changed."""

    def __setattr__(self, name: str, value: Any) -> None:
        kept: Any = None if name == "_folding" else value
        super().__setattr__(name, kept)


def test_folded_weights_may_be_forgotten_by_another_thread() -> None:
    network, inputs = small_weaver_network(), random_jets((3, 30, 17))
    forgetful, packed = (Tagger(form(network), [0]).double().eval() for form in (Forgetful, PackedParticleNet))
    with torch.no_grad():
        assert torch.equal(forgetful(inputs)[-1], packed(inputs)[-1])


def test_forms_share_parameters_and_names() -> None:
    tagger = small_tagger()
    packed = tagger.packed()
    assert packed.state_dict().keys() == tagger.state_dict().keys()
    assert all(own is other for own, other in zip(packed.parameters(), tagger.parameters(), strict=True))
    assert packed.packed().backbone is packed.backbone


def test_making_the_packed_form_draws_no_random_numbers() -> None:
    tagger = small_tagger()
    state = torch.get_rng_state()
    tagger.packed()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("count", [3, 9, 31])
@pytest.mark.parametrize("changes", [{}, UNEVEN], ids=["plain", "uneven"])
def test_macs_are_those_that_pytorch_counts(packed: bool, count: int, changes: dict[str, Any]) -> None:
    tagger = small_tagger(["input", 0, 2], **changes)
    tagger = tagger.packed() if packed else tagger
    inputs = random_jets((count,), length=31)
    unseen = [search_macs(tagger, stages, count) if packed else 0 for stages in (0, 1, 3, 3)]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        counted = [counter.get_total_flops() // 2 for _ in tagger.walk(inputs)]
    assert list(map(add, counted, unseen)) == tagger.exit_macs(torch.tensor([count]))[:, 0].tolist()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        assert [exit_.is_full_model for exit_ in tagger.walk(inputs, exits=())] == [True]
    assert counter.get_total_flops() // 2 + unseen[-1] == tagger.exit_macs(torch.tensor([count]), exits=())[-1]


def search_macs(tagger: Tagger, stages: int, count: int) -> int:
    """The distances between all particles of a jet, which the packed form computes outside PyTorch."""
    mod: Any = tagger.backbone.mod
    blocks = mod.edge_convs[:stages]
    dimensions = [2 if index == 0 else block.convs[0].in_channels // 2 for index, block in enumerate(blocks)]
    return sum(count * count * dimension for dimension in dimensions)


@pytest.mark.parametrize("changes", [{}, UNEVEN], ids=["plain", "uneven"])
def test_a_gpu_gets_the_same_features(changes: dict[str, Any]) -> None:
    backbone = small_tagger(**changes).packed().backbone
    state = backbone.embed(random_jets((12, 0, 31, 1), length=31))
    with torch.no_grad():
        for index, block in enumerate(fold(backbone.mod, backbone.input_channels).edge_convs):
            neighbour_Vk = nearest_neighbours(state.coordinates_VD, state.layout, block.k)
            parts = particle_parts(block, state.features_VC)
            torch.testing.assert_close(
                edge_conv_gpu(block, parts, neighbour_Vk), edge_conv_cpu(block, parts, neighbour_Vk)
            )
            state = backbone.stage(index, state)


def test_a_jet_that_is_not_a_number_spoils_no_other() -> None:
    tagger = small_tagger().float().packed()
    jets = random_jets((12, 9, 31), length=31).map(Tensor.float)
    jets.features[1, 0, 3] = torch.nan
    with torch.no_grad():
        logits_NK = tagger(jets)[-1]
    assert logits_NK.isnan().all(dim=1).tolist() == [False, True, False]
    assert not logits_NK[[0, 2]].isnan().any()


@pytest.mark.parametrize("block", range(3))
@pytest.mark.parametrize("layer", range(2))
@pytest.mark.parametrize("part", ["bias", "weight", "running_mean"])
def test_nan_in_a_layer_reaches_the_answer(block: int, layer: int, part: str) -> None:
    """The layers are wide enough for sparse products, which must not take NaN in all channels for zero."""
    tagger = small_tagger(("input", 0, 1), conv_params=[(4, (32, 32))] * 3).float()
    network: Any = tagger.architecture.mod
    norms = network.edge_convs[block].bns
    getattr(norms[layer], part).data.fill_(torch.nan)
    jets = random_jets([6, 9, 12], dtype=torch.float32)
    with torch.no_grad():
        wanted_ENK, found_ENK = tagger(jets), tagger.packed()(jets)
    assert wanted_ENK[-1].isnan().all()
    assert torch.equal(found_ENK.isnan(), wanted_ENK.isnan())
