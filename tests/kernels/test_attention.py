"""The attention kernel and its gradients against plain torch, on jets of odd lengths."""

from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from phaze_ee.engine.engine import Engine
from phaze_ee.models import fused_pairs, pair_bias
from phaze_ee.models import ragged_attention as attention
from phaze_ee.models.packed_transformer import PackedParticleTransformer
from phaze_ee.models.particle_transformer import ParticleTransformer
from phaze_ee.models.ragged_attention import Settings, ragged_attention, spans
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import JetInputs
from tests.jets import random_jets
from tests.models.test_particle_transformer import weaver_part
from tests.models.training_step import NO_DROPOUT, trained

COUNTS = (3, 0, 35, 1)  # more than a tile


class Case(NamedTuple):
    """Heads of ``size`` channels; ``lead`` tokens without bias before the particles, ``classes``: one query a jet."""

    size: int
    lead: int = 0
    biased: bool = True
    classes: bool = False


CASES = {
    "plain": Case(16),
    "a global token": Case(6, lead=1),
    "no bias": Case(3, biased=False),
    "class attention": Case(20, lead=1, biased=False, classes=True),
    "rows that take a smaller tile": Case(40, lead=1),
}
BY_CASE = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def operands(
    case: Case, counts: tuple[int, ...] = COUNTS, dtype: torch.dtype = torch.float64
) -> tuple[list[Tensor | None], Settings]:
    """Random queries, keys, values and bias."""
    draw = torch.Generator().manual_seed(0)
    count_N = torch.tensor(counts)
    key_N = count_N + case.lead
    query_N = torch.ones_like(count_N) if case.classes else key_N

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype).requires_grad_()

    rows = [random(int(number_N.sum()), 2, case.size) for number_N in (query_N, key_N, key_N)]
    bias = random(2, int(count_N.square().sum())) if case.biased else None
    return [*rows, bias], Settings(spans(query_N, key_N, count_N), case.lead)


def both(case: Case, device: torch.device, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> list[list[Tensor]]:
    """Return the result and all gradients, in plain torch and of the kernel."""
    found = []
    for use_kernel in (False, True):
        monkeypatch.setattr(attention, "runs_kernels", lambda tensor, use_kernel=use_kernel: use_kernel)
        monkeypatch.setattr(attention, "_TYPES", (torch.float64, torch.float32, torch.float16, torch.bfloat16))
        values, settings = operands(case, dtype=dtype)
        given: list[Any] = [None if value is None else value.detach().to(device).requires_grad_() for value in values]
        settings = settings._replace(span_6N=settings.span_6N.to(device))
        query, key, value, bias = given
        out = ragged_attention((query, key, value), bias, settings)
        weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
        known = [value for value in given if value is not None]
        found.append([out.detach(), *torch.autograd.grad((out * weight).sum(), known)])
    return found


@BY_CASE
def test_double_precision(case: Case, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    if device.type == "cuda":
        pytest.skip("on a card, double precision runs in plain torch")
    plain, kernel = both(case, device, monkeypatch, torch.float64)
    torch.testing.assert_close(kernel, plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.float16, 2e-2), (torch.bfloat16, 4e-2)])
def test_other_precisions(
    dtype: torch.dtype, error: float, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, kernel = both(CASES["plain"], device, monkeypatch, dtype)
    torch.testing.assert_close(kernel, plain, rtol=error, atol=error)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_gradients_are_those_of_differences(
    dropout: float, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout too: the mask is the same in both directions."""
    if device.type == "cuda":
        pytest.skip("on a card, double precision runs in plain torch")
    monkeypatch.setattr(attention, "runs_kernels", lambda tensor: True)
    monkeypatch.setattr(attention, "_TYPES", (torch.float64,))
    given, settings = operands(Case(2, lead=1), (2, 0, 3))

    def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        torch.manual_seed(3)
        return ragged_attention((query, key, value), bias, settings._replace(dropout=dropout))

    known = [value for value in given if value is not None]
    assert torch.autograd.gradcheck(attend, known, eps=1e-6, atol=1e-6, fast_mode=True)


def test_dropout_drops_a_share_of_the_weights_and_keeps_their_mean(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "runs_kernels", lambda tensor: True)
    count_N = torch.tensor([64, 64])
    query = torch.zeros(128, 2, 64, device=device)
    value = torch.eye(64, device=device).repeat(2, 1)[:, None].repeat(1, 2, 1)  # so the result is the weights
    settings = Settings(spans(count_N, count_N, count_N).to(device), dropout=0.25)
    attend = partial(ragged_attention, (query, query, value), None, settings)
    torch.manual_seed(0)
    weight = attend() * 64
    assert float((weight == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    torch.testing.assert_close(weight[weight > 0], torch.full_like(weight[weight > 0], 1 / 0.75))
    for one, other in ((weight[:64], weight[64:]), (weight[:, 0], weight[:, 1])):  # jets, heads
        assert float((one == other).float().mean()) == pytest.approx(0.75**2 + 0.25**2, abs=0.02)
    torch.manual_seed(0)
    assert torch.equal(attend() * 64, weight)
    assert not torch.equal(attend() * 64, weight)


def jets(counts: tuple[int, ...] = (3, 40, 1, 0)) -> JetInputs:
    return random_jets(counts).map(lambda tensor: tensor.float() if tensor.is_floating_point() else tensor)


@pytest.mark.parametrize("version", [1, 3.6])
def test_the_engine_takes_the_kernels(version: float, on_card: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    tagger = Tagger(ParticleTransformer(weaver_part(version=version)), [0, 1]).double().eval()
    with torch.no_grad():
        expected_ENK = tagger(random_jets((3, 40, 1, 0)))
    engine = Engine(tagger.float().to(on_card))
    assert isinstance(engine.tagger.backbone, PackedParticleTransformer)
    monkeypatch.setattr(attention, "_in_torch", None)
    monkeypatch.setattr(pair_bias, "_embedded", None)
    found_ENK = engine.every_exit(jets().to(on_card))
    torch.testing.assert_close(found_ENK.cpu().double(), expected_ENK, rtol=1e-4, atol=1e-4)


def test_a_training_step_is_weavers(on_card: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    if on_card.type == "cuda":
        pytest.skip("on a card, double precision runs in plain torch")
    for kernels in (attention, fused_pairs):
        monkeypatch.setattr(kernels, "_TYPES", (torch.float64,))
    monkeypatch.setattr(attention, "_in_torch", None)
    monkeypatch.setattr(pair_bias, "_embedded", None)
    found = []
    for packed in (False, True):
        network = weaver_part(block_params=NO_DROPOUT, num_layers=2)
        torch.manual_seed(1)
        tagger = Tagger(ParticleTransformer(network), ["input", 0]).double()
        found.append(trained(tagger.packed() if packed else tagger, random_jets((3, 34, 1, 0))))
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_trains(dtype: torch.dtype, on_card: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_bias, "_embedded", None)
    network = weaver_part(num_layers=1).float()
    tagger = Tagger(ParticleTransformer(network), []).to(on_card).packed().train()
    with torch.autocast(on_card.type, dtype):
        logits_NK = tagger(jets((5, 3)).to(on_card))[-1]
    logits_NK.float().square().mean().backward()
    gradients = [value.grad for value in tagger.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_operands_together_have_one_gradient(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "runs_kernels", lambda tensor: True)
    count_N = torch.tensor([3, 0, 40], device=device)
    settings = Settings(spans(count_N, count_N, count_N))
    projected_T3HD = torch.randn(43, 3, 2, 5, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
    found = []
    for parts in ((projected_T3HD,), projected_T3HD.unbind(1)):
        out = ragged_attention(parts, None, settings)
        (gradient,) = torch.autograd.grad(out.square().sum(), projected_T3HD)
        found.append((out.detach(), gradient))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
