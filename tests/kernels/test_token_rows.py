"""The kernel of what comes between two products of a transformer, against the same layers in torch."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from weaver.nn.model.ParticleTransformer import LayerScale

from phaze_ee.engine.engine import Engine
from phaze_ee.models import token_rows
from phaze_ee.models.particle_transformer import ParticleTransformer
from phaze_ee.models.tagger import Tagger
from phaze_ee.models.token_rows import between_products, through_products
from tests.jets import random_jets
from tests.models.test_packed_transformer import BY_OPTIONS
from tests.models.test_particle_transformer import weaver_part


class Case(NamedTuple):
    """Layers on ``channels`` channels, whatever comes before and after them, and whether the kernel has them."""

    channels: int
    layers: Sequence[nn.Module] = ()
    heads: int = 0
    residual: str = "none"
    kept: bool = False
    norm: nn.Module | None = None
    has_kernel: bool = True


def rms(channels: int, **options: Any) -> nn.RMSNorm:
    return nn.RMSNorm(channels, **options)


CASES = {
    "a norm alone": Case(17, norm=nn.LayerNorm(17)),
    "after the attention": Case(
        96, (nn.LayerNorm(96), nn.Dropout(0.5).eval(), LayerScale(96)), 8, "tokens", norm=nn.LayerNorm(96)
    ),
    "hidden": Case(600, (nn.GELU(), nn.Identity(), nn.LayerNorm(600))),
    "after the hidden": Case(12, residual="tokens", kept=True),
    "one residual for all": Case(12, (nn.ReLU(),), residual="one", kept=True),
    "RMS norms": Case(40, (rms(40, eps=1e-3),), 4, norm=rms(40)),
    "without weights": Case(5, (nn.LayerNorm(5, elementwise_affine=False), nn.ReLU()), has_kernel=False),
    "norm without bias": Case(5, (nn.LayerNorm(5, bias=False),)),
    "nothing": Case(5, (nn.Identity(), nn.Dropout(0.0))),
    "another activation": Case(5, (nn.SiLU(),), has_kernel=False),
    "another norm": Case(6, norm=nn.GroupNorm(2, 6), has_kernel=False),
}
BY_CASE = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch, on_card: torch.device) -> list[Any]:
    """What the kernel was asked for."""
    from phaze_ee.kernels import token_rows as kernels

    asked: list[Any] = []
    launch = kernels.run

    def run(x_TC: Tensor, *rest: Any) -> list[Tensor]:
        asked.append(rest)
        return launch(x_TC, *rest)

    monkeypatch.setattr(kernels, "run", run)
    return asked


def arguments(case: Case, tokens: int, device: torch.device) -> tuple[Tensor, list[nn.Module], dict[str, Any]]:
    """Random tokens, the layers with random weights, and the other arguments; in float64."""
    torch.manual_seed(0)
    layers, norm = nn.ModuleList(case.layers).double().to(device), case.norm
    others = nn.ModuleList([] if norm is None else [norm]).double().to(device)
    for value in (*layers.parameters(), *others.parameters()):
        nn.init.normal_(value)
    given: dict[str, Any] = {
        "scale_H": torch.randn(case.heads) if case.heads else None,
        "residual_TC": {
            "none": None,
            "one": torch.randn(1, case.channels).expand(tokens, -1),
            "tokens": torch.randn(tokens, case.channels),
        }[case.residual],
        "kept_C": torch.randn(case.channels) if case.kept else None,
    }
    given = {name: None if value is None else value.double().to(device) for name, value in given.items()}
    given["norm"] = norm
    return torch.randn(tokens, case.channels, dtype=torch.float64).to(device), list(layers), given


def in_type(case: Case, tokens: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return both results in a type, of parameters in float32."""
    x_TC, layers, given = arguments(case, tokens, device)
    for layer in [*layers, *([] if case.norm is None else [case.norm])]:
        layer.float()
    kept: dict[str, Any] = {
        name: value.float() if isinstance(value, Tensor) else value for name, value in given.items()
    }
    return between_products(x_TC.to(dtype), layers, **kept)


@BY_CASE
@pytest.mark.parametrize("tokens", [0, 1, 37])
@torch.no_grad()
def test_the_numbers_are_those_of_the_layers(
    case: Case, tokens: int, on_card: torch.device, launches: list[Any]
) -> None:
    x_TC, layers, given = arguments(case, tokens, on_card)
    expected = between_products(x_TC, layers, **given)
    assert not launches  # float64 runs in torch
    found = in_type(case, tokens, on_card, torch.float32)
    assert len(launches) == (case.has_kernel and case is not CASES["nothing"])
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["after the attention", "hidden", "a norm alone"])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
@torch.no_grad()
def test_half_precision_is_read_and_written(
    name: str, dtype: torch.dtype, error: float, on_card: torch.device, launches: list[Any]
) -> None:
    case = CASES[name]
    x_TC, layers, given = arguments(case, 9, on_card)
    expected = between_products(x_TC.to(dtype).double(), layers, **given)
    with torch.autocast(on_card.type, dtype):
        found = in_type(case, 9, on_card, dtype)
    assert launches
    assert found[1].dtype == dtype
    assert found[0].dtype == (dtype if given["residual_TC"] is None else torch.float32)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=error, atol=error)


def test_training_takes_the_layers(on_card: torch.device, launches: list[Any]) -> None:
    x_TC, layers, _ = arguments(CASES["after the attention"], 3, on_card)
    x_TC, layers = x_TC.float().requires_grad_(), [layer.float() for layer in layers]
    between_products(x_TC, layers)[0].sum().backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        between_products(x_TC, [nn.Dropout(0.5)])
        between_products(x_TC, layers, drop=torch.zeros_like)
    assert x_TC.grad is not None
    assert not launches


@torch.no_grad()
def test_layers_with_products_between_them(on_card: torch.device, launches: list[Any]) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.LayerNorm(7), nn.Linear(7, 33), nn.GELU(), nn.LayerNorm(33), nn.Linear(33, 4), nn.GELU())
    x_TC = torch.randn(5, 7)
    expected = layers(x_TC)
    found = through_products(x_TC.to(on_card), layers.to(on_card))
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-5, atol=1e-5)
    assert len(launches) == 3
    torch.testing.assert_close(through_products(x_TC.to(on_card), nn.GELU()).cpu(), nn.GELU()(x_TC))


@BY_OPTIONS
@torch.no_grad()
def test_every_network_of_weaver(changes: dict[str, Any], on_card: torch.device, launches: list[Any]) -> None:
    """With scales, gates, RMS norms, layer scales or a global token, whatever the kernel takes of it."""
    torch.manual_seed(2)
    network = weaver_part(**changes)
    for name, value in network.named_parameters():
        if name.endswith(("c_attn", "w_resid", "gamma", "norm.weight", "norm.bias")):
            nn.init.normal_(value)
    tagger = Tagger(ParticleTransformer(network), [0]).double().eval()
    expected_ENK = tagger(random_jets((3, 12, 1, 0)))
    engine = Engine(tagger.float().to(on_card))
    jets = random_jets((3, 12, 1, 0)).map(lambda tensor: tensor.float() if tensor.is_floating_point() else tensor)
    found_ENK = engine.every_exit(jets.to(on_card))
    torch.testing.assert_close(found_ENK.cpu().double(), expected_ENK, rtol=1e-3, atol=1e-3)
    assert launches


def test_only_what_fits_runs_as_a_kernel(on_card: torch.device, launches: list[Any]) -> None:
    wide = torch.zeros(1, token_rows.MOST_CHANNELS + 1, device=on_card)
    with torch.no_grad():
        between_products(wide, [nn.GELU()])
    assert not launches
