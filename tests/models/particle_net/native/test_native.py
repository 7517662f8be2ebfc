"""The native form of ParticleNet against weaver-core's own module and against the packed form."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phaze_ee.errors import UsageError
from phaze_ee.models.particle_net.packed import NativeParticleNet
from phaze_ee.models.particle_net.padded import ParticleNet
from phaze_ee.models.tagger import Tagger
from phaze_ee.models.threads import ThreadTeam
from phaze_ee.types import JetInputs
from tests.compiler import needs_compiler
from tests.jets import random_jets, small_tagger, small_weaver_network
from tests.models.particle_net import test_padded as padded
from tests.models.particle_net.test_packed import REAL, UNEVEN
from tests.published import published_network, real_jets

pytestmark = needs_compiler


class TestNativeParticleNet(padded.TestParticleNet):
    """The contract without gradients: the kernel runs."""

    def backbone(self) -> Any:
        return NativeParticleNet(small_weaver_network(**self.changes)).eval()

    @pytest.fixture(autouse=True)
    def _without_gradients(self) -> Iterator[None]:
        with torch.no_grad():
            yield

    def test_every_parameter_gets_a_gradient(self) -> None:
        with torch.enable_grad():
            super().test_every_parameter_gets_a_gradient()


class TestNativeWithFusion(TestNativeParticleNet):
    changes = {"use_fusion": True}  # noqa: RUF012


class TestNativeWithoutInputBatchNorm(TestNativeParticleNet):
    changes = {"use_fts_bn": False}  # noqa: RUF012


class TestNativeWithUnevenBlocks(TestNativeParticleNet):
    changes = UNEVEN


def without_gradients(tagger: Tagger, jets: Any) -> torch.Tensor:
    with torch.no_grad():
        logits_ENK: torch.Tensor = tagger(jets)
        return logits_ENK


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-12), (torch.float32, 5e-5)])
@pytest.mark.parametrize("kind", REAL)
def test_published_network_equals_weaver_on_real_jets(
    shared_dir: Path, kind: str, dtype: torch.dtype, atol: float
) -> None:
    network = published_network(shared_dir, "kin").to(dtype)
    jets = REAL[kind](real_jets(shared_dir)[0].select(torch.arange(60))).map(lambda tensor: tensor.to(dtype))
    with torch.no_grad():
        expected = network(jets.points, jets.features, jets.mask)
    logits = without_gradients(Tagger(NativeParticleNet(network).eval(), []), jets)[-1]
    # Logits of odd jets reach 60: beyond 35, twelve roundings of float32 are more than 5e-5.
    rounding = 12 * torch.finfo(dtype).eps * expected.abs()
    assert ((logits - expected).abs() <= rounding.clamp(min=atol)).all()


@settings(max_examples=25, deadline=None)
@given(
    counts=st.lists(st.integers(0, 40), max_size=6),
    blocks=st.lists(
        st.tuples(st.integers(1, 20), st.lists(st.integers(1, 70), min_size=1, max_size=3)), min_size=1, max_size=3
    ),
    channels=st.integers(1, 20),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    seed=st.integers(0, 2**31),
)
def test_any_network_equals_the_packed_form(
    counts: list[int], blocks: list[tuple[int, list[int]]], channels: int, dtype: torch.dtype, seed: int
) -> None:
    network = small_weaver_network(seed=seed, input_dims=channels, conv_params=blocks).to(dtype)
    tagger = Tagger(ParticleNet(network), range(len(blocks))).to(dtype).eval()
    jets = random_jets(counts, length=45, channels=channels, seed=seed, dtype=dtype)
    # In single precision, different neighbours may be the nearest of two that are all but equally far.
    tolerance: dict[str, Any] = {"rtol": 0.0, "atol": 1e-11} if dtype == torch.float64 else {"rtol": 1e-3, "atol": 1e-3}
    expected = without_gradients(tagger.packed(), jets)
    torch.testing.assert_close(without_gradients(tagger.native(), jets), expected, **tolerance)
    torch.testing.assert_close(without_gradients(tagger.native(), jets.ragged()), expected, **tolerance)


def features_after(backbone: NativeParticleNet, stages: int, jets: JetInputs) -> torch.Tensor:
    with torch.no_grad():
        state = backbone.embed(jets)
        for index in range(stages):
            state = backbone.stage(index, state)
        return state.features_VC


@pytest.mark.parametrize("counts", [(3, 30, 17, 0, 128, 1), (128,), ()])
def test_numbers_do_not_depend_on_threads_or_on_other_jets(counts: tuple[int, ...]) -> None:
    network, jets = small_weaver_network().float(), random_jets(counts, length=128, dtype=torch.float32)
    backbone = NativeParticleNet(network).eval()
    expected = features_after(backbone, 3, jets)
    assert expected.shape == (sum(counts), 12)
    for threads in (1, 2, 3):
        (features_VC,) = ThreadTeam(threads).map(lambda _: features_after(backbone, 3, jets), [None])
        assert torch.equal(features_VC, expected)
    alone = [features_after(backbone, 3, jets.select(torch.tensor([jet]))) for jet in range(len(jets))]
    assert torch.equal(torch.cat([*alone, expected[:0]]), expected)


def test_the_first_of_equally_near_particles_is_a_neighbour() -> None:
    # Particle 0 sees all others at the same distance. With k = 1 it must see particle 1, whatever the others hold.
    network = small_weaver_network(conv_params=[(1, (8, 8))])
    jets = random_jets((9,))
    jets.points[0] = 0
    jets.points[0, 0, 1:] = 1
    backbone = NativeParticleNet(network).eval()
    expected = features_after(backbone, 1, jets)[0]
    for particle in range(1, 9):
        changed = jets.map(torch.clone)
        changed.features[0, :, particle] += 1
        assert torch.equal(features_after(backbone, 1, changed)[0], expected) == (particle != 1)


def test_a_particle_is_not_its_own_neighbour_where_points_coincide() -> None:
    jets = random_jets((20, 12), length=20)
    jets.points[0, :, 1] = jets.points[0, :, 0]
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    tagger = small_tagger()
    expected = without_gradients(tagger.packed(), jets)
    for inputs in (jets, jets.map(lambda tensor: tensor[..., order])):
        torch.testing.assert_close(without_gradients(tagger.native(), inputs), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("where", ["points", "features"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_visible_and_in_its_jet(where: str, value: float) -> None:
    jets = random_jets((20, 12, 7), length=20)
    getattr(jets, where)[1, 0, 3] = value
    tagger = small_tagger()
    expected, logits = without_gradients(tagger.packed(), jets), without_gradients(tagger.native(), jets)
    torch.testing.assert_close(logits[:, [0, 2]], expected[:, [0, 2]], rtol=0, atol=1e-11)
    if where == "features":
        assert not logits[:, 1].isfinite().any()


def test_weights_follow_the_parameters() -> None:
    tagger, jets = small_tagger(), random_jets((3, 30, 17))
    native = tagger.native()
    before = without_gradients(native, jets)
    tagger.backbone.load_state_dict(small_tagger(seed=9).backbone.state_dict())
    expected = without_gradients(tagger.packed(), jets)
    assert not torch.equal(without_gradients(native, jets), before)
    torch.testing.assert_close(without_gradients(native, jets), expected, rtol=0, atol=1e-11)
    torch.testing.assert_close(
        without_gradients(native.float(), jets.map(torch.Tensor.float)).double(), expected, rtol=0, atol=1e-4
    )


def test_what_the_kernel_cannot_do_is_said() -> None:
    native, jets = small_tagger().native(), random_jets((3, 9))
    with pytest.raises(UsageError, match=r"features have 7 channels in torch.float64 .*takes 7 in torch.float32"):
        without_gradients(native.float(), jets)
    with pytest.raises(UsageError, match=r"CPU in float32 or float64, not on cpu in torch.bfloat16"):
        without_gradients(native.bfloat16(), jets.map(torch.Tensor.bfloat16))
