"""The kernels of pairs against weaver's PairEmbed itself, in inference and training, for odd shapes too."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from weaver.nn.model.ParticleTransformer import PairEmbed

from phaze_ee.models import fused_layers, fused_pairs, pair_bias
from phaze_ee.models.folded_pairs import FoldedPairs
from phaze_ee.models.pair_layers import usual_layers
from phaze_ee.models.particle_net import batch_norm
from phaze_ee.models.states import JetLayout, PackedState
from phaze_ee.types import JetInputs
from tests.jets import random_jets

COUNTS = (3, 0, 17, 1)  # more pairs than a tile
SHAPES: dict[str, dict[str, Any]] = {
    "as published": {"dims": (8, 8, 8, 4)},
    "one layer": {"dims": (3,)},
    "two layers": {"dims": (5, 2)},
    "uneven layers": {"dims": (12, 96, 5)},
    "more heads than channels": {"dims": (2, 20)},
    "five layers": {"dims": (4, 9, 4, 9, 4)},
    "ReLU": {"activation": "relu"},
    "an activation after the last layer": {"use_pre_activation_pair": False},
    "ReLU after the last layer": {"use_pre_activation_pair": False, "activation": "relu"},
    "features as they are": {"normalize_input": False},
    "one layer, features as they are": {"normalize_input": False, "dims": (3,)},
    "no pair of a particle with itself": {"remove_self_pair": True},
    "no biases": {"use_bias": False},
    "one feature": {"pairwise_lv_dim": 1},
    "three features": {"pairwise_lv_dim": 3},
    "five features": {"pairwise_lv_dim": 5},
    "features that are not symmetric": {"pairwise_lv_dim": 8},
    "features that are not symmetric, without pairs with itself": {"pairwise_lv_dim": 8, "remove_self_pair": True},
    "features of an electron collider": {"pairwise_lv_type": "ee", "pairwise_lv_dim": 6},
}
BY_SHAPE = pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES.keys())


@pytest.fixture
def fuses(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """The device, where pairs must take the kernels, in double precision too."""
    if device.type == "cuda":
        pytest.skip("on a card, double precision runs in plain torch")
    monkeypatch.setattr(fused_pairs, "runs_kernels", lambda tensor: True)
    monkeypatch.setattr(batch_norm, "runs_kernels", lambda tensor: True)
    monkeypatch.setattr(fused_pairs, "_TYPES", (torch.float64,))
    monkeypatch.setattr(pair_bias, "_embedded", None)
    return device


def embed_of(**changes: Any) -> PairEmbed:
    """weaver's module with weights and statistics that are not the trivial ones, in double precision."""
    torch.manual_seed(0)
    embed = PairEmbed(**{"pairwise_lv_dim": 4, "pairwise_input_dim": 0, "dims": (6, 6, 2), **changes}).double()
    for parameter in embed.parameters():
        nn.init.normal_(parameter, std=0.5)
    for name, buffer in embed.named_buffers():
        if name.endswith("running_mean"):
            nn.init.normal_(buffer)
        elif name.endswith("running_var"):
            nn.init.uniform_(buffer, 0.5, 2.0)
    return embed.eval()


def state_of(jets: JetInputs, dtype: torch.dtype = torch.float64, device: str | torch.device = "cpu") -> PackedState:
    ragged = jets.ragged().to(device)
    assert ragged.vectors_V4 is not None
    layout = JetLayout(ragged.particle_count_N)
    return PackedState(ragged.features_VC, ragged.vectors_V4.to(dtype), layout, jets.mask.shape[-1])


def bias_of(embed: PairEmbed, state: PackedState) -> Tensor:
    return pair_bias.pair_bias(embed, state, FoldedPairs())


def of_weaver(embed: PairEmbed, jets: JetInputs) -> Tensor:
    """weaver's bias, of the ordered pairs of all jets."""
    bias_NHPP = embed(jets.vectors, mask=jets.mask.bool())
    counts = [int(count) for count in jets.particle_count_N]
    return torch.cat([bias[:, :count, :count].flatten(1) for bias, count in zip(bias_NHPP, counts, strict=True)], dim=1)


def stepped(embed: PairEmbed, bias_HE: Tensor) -> list[Tensor]:
    """Return the bias, the gradients of a loss, and all running statistics."""
    weight_HE = torch.randn(bias_HE.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (bias_HE * weight_HE.to(bias_HE)).sum().backward()  # type: ignore[no-untyped-call]
    gradients = [parameter.grad for parameter in embed.parameters()]
    assert all(gradient is not None for gradient in gradients)
    return [bias_HE.detach(), *(value for value in gradients if value is not None), *embed.buffers()]


@BY_SHAPE
@torch.no_grad()
def test_the_bias_is_weavers(changes: dict[str, Any], fuses: torch.device) -> None:
    embed, jets = embed_of(**changes), random_jets(COUNTS)
    torch.testing.assert_close(bias_of(embed, state_of(jets)), of_weaver(embed, jets), rtol=1e-11, atol=1e-11)


@BY_SHAPE
def test_a_training_step_is_weavers(changes: dict[str, Any], fuses: torch.device) -> None:
    jets = random_jets(COUNTS)
    expected = stepped(embed := embed_of(**changes).train(), of_weaver(embed, jets))
    found = stepped(embed := embed_of(**changes).train(), bias_of(embed, state_of(jets)))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("counts", [(1,), (1, 0), (2,), (16, 15)])
def test_few_particles(counts: tuple[int, ...], fuses: torch.device) -> None:
    embed, jets = embed_of(), random_jets(counts)
    torch.testing.assert_close(bias_of(embed, state_of(jets)), of_weaver(embed, jets), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("counts", "ordered"), [((0, 0), 0), ((1, 1), 2)])
@pytest.mark.parametrize("train", [False, True])
def test_no_pair_at_all(counts: tuple[int, ...], ordered: int, train: bool, fuses: torch.device) -> None:
    embed = embed_of(remove_self_pair=True).train(train)
    before = [buffer.clone() for buffer in embed.buffers()]
    bias_HE = bias_of(embed, state_of(random_jets(counts)))
    assert torch.equal(bias_HE, bias_HE.new_zeros(2, ordered))
    assert all(torch.equal(*values) for values in zip(embed.buffers(), before, strict=True))


def heavy_jets() -> JetInputs:
    """Jets of particles with masses, which are no small differences of large numbers: a card adds in another order."""
    jets = random_jets(COUNTS)
    assert jets.vectors is not None
    jets.vectors[:, 3] *= 1.25
    return jets


def found_by(
    changes: dict[str, Any], dtype: torch.dtype, device: torch.device, monkeypatch: pytest.MonkeyPatch,
    *, kernels: bool, train: bool,
) -> list[Tensor]:  # fmt: skip
    """Return what the kernels or plain torch find in float32, with operands of another type."""
    monkeypatch.setattr(fused_pairs, "runs_kernels", lambda tensor: kernels)
    embed = embed_of(**changes).float().to(device).train(train)
    state = state_of(heavy_jets(), torch.float32, device)
    with torch.set_grad_enabled(train), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        bias_HE = bias_of(embed, state)
    assert bias_HE.dtype == dtype
    return stepped(embed, bias_HE) if train else [bias_HE]


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.float16, 2e-2), (torch.bfloat16, 4e-2)])
@pytest.mark.parametrize("name", ["uneven layers", "as published", "features that are not symmetric"])
def test_the_bias_in_other_precisions(
    dtype: torch.dtype, error: float, name: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    (plain,) = found_by(SHAPES[name], torch.float32, device, monkeypatch, kernels=False, train=False)
    (kernel,) = found_by(SHAPES[name], dtype, device, monkeypatch, kernels=True, train=False)
    assert (kernel.float() - plain).abs().max() <= error * plain.abs().max()


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 5e-5), (torch.float16, 2e-2), (torch.bfloat16, 0.16)])
@pytest.mark.parametrize("name", ["uneven layers", "as published"])
def test_a_step_in_other_precisions(
    dtype: torch.dtype, error: float, name: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = found_by(SHAPES[name], torch.float32, device, monkeypatch, kernels=False, train=True)
    kernel = found_by(SHAPES[name], dtype, device, monkeypatch, kernels=True, train=True)
    # Some gradients are zero but for rounding.
    least = 0.05 * max(float(value.abs().max()) for value in plain)
    for one, other in zip(kernel, plain, strict=True):
        assert (one.float() - other).abs().max() <= error * other.abs().max().clamp(min=least)


def test_steps_are_repeated_bit_for_bit(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [found_by({}, torch.float32, device, monkeypatch, kernels=True, train=True) for _ in range(2)]
    assert all(torch.equal(*values) for values in zip(*steps, strict=True))


def set_summed(monkeypatch: pytest.MonkeyPatch, summed: Callable[[Tensor], Tensor]) -> None:
    for module in (batch_norm, fused_layers):
        monkeypatch.setattr(module, "summed", summed)


def test_statistics_are_those_of_all_processes(fuses: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes with the same jets give what one of them gives alone."""
    found = []
    for processes in (1, 2):
        monkeypatch.setattr(batch_norm, "process_count", lambda processes=processes: processes)
        set_summed(monkeypatch, partial(torch.mul, torch.tensor(processes)))
        embed = embed_of().train()
        found.append(stepped(embed, bias_of(embed, state_of(random_jets(COUNTS)))))
    for alone, together in zip(*found, strict=True):
        # The unbiased variance of twice as many pairs is another one.
        torch.testing.assert_close(together, alone, rtol=1e-2, atol=1e-8)


class Sums:
    """The sums over all processes, of which this one knows what the others add."""

    def __init__(self, others: list[Tensor] | None = None) -> None:
        """Store what the others add, sum after sum; None: nothing."""
        self.given: list[Tensor] = []
        self._others = others

    def __call__(self, value: Tensor) -> Tensor:
        """Return the sum."""
        self.given.append(value)
        return value if self._others is None else value + self._others[len(self.given) - 1]


@pytest.fixture
def two_processes(fuses: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (batch_norm, fused_pairs, pair_bias):
        monkeypatch.setattr(module, "process_count", lambda: 2)


@pytest.mark.usefixtures("two_processes")
@pytest.mark.parametrize("changes", [{}, {"normalize_input": False}, {"dims": (3,)}])
def test_a_process_without_pairs_takes_part(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    some, none = (embed_of(remove_self_pair=True, **changes).train() for _ in range(2))
    set_summed(monkeypatch, shared := Sums())
    stepped(some, bias_of(some, state_of(random_jets(COUNTS))))
    set_summed(monkeypatch, own := Sums(shared.given))
    assert not stepped(none, bias_of(none, state_of(random_jets((1, 0)))))[0].any()
    assert [value.shape for value in own.given] == [value.shape for value in shared.given]
    assert not any(value.any() for value in own.given)
    assert not any(value.grad is None or value.grad.any() for value in none.parameters())
    assert all(torch.equal(*values) for values in zip(some.buffers(), none.buffers(), strict=True))


@pytest.mark.usefixtures("two_processes")
def test_no_process_has_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    set_summed(monkeypatch, Sums())
    embed = embed_of(remove_self_pair=True).train()
    before = [buffer.clone() for buffer in embed.buffers() if buffer.is_floating_point()]
    stepped(embed, bias_of(embed, state_of(random_jets((1, 0)))))
    assert not any(value.grad is None or value.grad.any() for value in embed.parameters())
    after = [buffer for buffer in embed.buffers() if buffer.is_floating_point()]
    assert all(torch.equal(*values) for values in zip(after, before, strict=True))


def test_a_process_without_pairs_takes_part_in_plain_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    embed = embed_of(remove_self_pair=True).train()
    state = state_of(random_jets((1, 0)))
    assert not bias_of(embed, state).requires_grad
    monkeypatch.setattr(pair_bias, "process_count", lambda: 2)
    assert not stepped(embed, bias_of(embed, state))[0].any()
    assert not any(value.grad is None or value.grad.any() for value in embed.parameters())


def test_what_does_not_take_the_kernels(
    device: torch.device, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    momenta_V4 = torch.ones(3, 4, device=device)

    def fits(embed: PairEmbed, momenta_V4: Tensor = momenta_V4, count: int = 6) -> bool:
        return fused_pairs.fits_kernels(embed.float().to(device), momenta_V4, count)

    assert not fits(embed_of().requires_grad_(False)) or device.type == "cuda"
    monkeypatch.setattr(fused_pairs, "runs_kernels", lambda tensor: True)
    assert fits(embed_of().requires_grad_(False))
    assert not fits(embed_of())
    with torch.no_grad():
        assert fits(embed_of())
        assert not fits(embed_of(), momenta_V4.double())
    assert fits(embed_of().train())
    assert not fits(embed_of().train(), count=1)
    assert not fits(embed_of().train(), momenta_V4.clone().requires_grad_())
    frozen = embed_of().train()
    frozen.embed[0].eval()
    assert not fits(frozen)
    assert not caplog.text
    fused_pairs._narrow.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert not fits(embed_of(dims=(257, 2)).train())
        assert not fits(embed_of(dims=(257, 2)).train())
    assert caplog.text.count("pair layers of 257 channels") == 1


@pytest.mark.parametrize(
    "other",
    [
        lambda layers: [*layers, nn.Dropout()],
        lambda layers: [*layers[:3], nn.GELU(approximate="tanh"), *layers[4:]],
        lambda layers: [*layers[:3], nn.ReLU(), *layers[4:]],
        lambda layers: [layers[0], nn.Conv1d(4, 6, 3, padding=1), *layers[2:]],
        lambda layers: layers[:2],
        lambda layers: layers[:1],
        lambda layers: [nn.BatchNorm1d(4, affine=False), *layers[1:]],
        lambda layers: [nn.BatchNorm1d(4, track_running_stats=False), *layers[1:]],
    ],
)
def test_layers_that_are_not_weavers(other: Any) -> None:
    embed = embed_of()
    assert usual_layers(embed) is not None
    embed.embed = nn.Sequential(*other(list(embed.embed)))
    assert usual_layers(embed) is None


@torch.no_grad()
@pytest.mark.parametrize(
    "change",
    [
        lambda embed: nn.init.normal_(embed.embed[1].weight),
        lambda embed: embed.embed[2].running_var.mul_(3),
        lambda embed: embed.load_state_dict({name: value * 1.5 for name, value in embed.state_dict().items()}),
    ],
)
def test_folded_layers_follow_the_parameters(change: Any, fuses: torch.device) -> None:
    embed, jets, folded = embed_of(), random_jets(COUNTS), FoldedPairs()
    before = pair_bias.pair_bias(embed, state_of(jets), folded)
    change(embed)
    after = pair_bias.pair_bias(embed, state_of(jets), folded)
    assert not torch.allclose(after, before)
    torch.testing.assert_close(after, of_weaver(embed, jets), rtol=1e-11, atol=1e-11)


@torch.no_grad()
def test_momenta_that_are_not_numbers_stay_in_their_jet(fuses: torch.device) -> None:
    jets = random_jets((3, 4))
    assert jets.vectors is not None
    jets.vectors[0, :, 1] = torch.nan
    bias_HE = bias_of(embed_of(), state_of(jets))
    bad_3 = torch.tensor([False, True, False])
    bad_E = pad((bad_3[:, None] | bad_3).flatten(), (0, 16))
    assert torch.equal(bias_HE.isnan(), bad_E.expand_as(bias_HE))
