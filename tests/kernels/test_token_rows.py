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
from tests.models.training_step import NO_DROPOUT, trained


class Case(NamedTuple):
    """Layers on ``channels`` channels, whatever comes before and after them, and whether the kernel has them."""

    channels: int
    product: nn.Linear | None = None
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
        96,
        nn.Linear(9, 96),
        (nn.LayerNorm(96), nn.Dropout(0.5).eval(), LayerScale(96)),
        8,
        "tokens",
        norm=nn.LayerNorm(96),
    ),
    "hidden": Case(600, nn.Linear(9, 600), (nn.GELU(), nn.Identity(), nn.LayerNorm(600))),
    "after the hidden": Case(12, nn.Linear(9, 12), residual="tokens", kept=True),
    "one residual for all": Case(12, None, (nn.ReLU(),), residual="one", kept=True),
    "RMS norms": Case(40, nn.Linear(9, 40, bias=False), (rms(40, eps=1e-3),), 4, norm=rms(40)),
    "a product and a norm": Case(7, nn.Linear(9, 7), norm=nn.LayerNorm(7)),
    "a product alone": Case(7, nn.Linear(9, 7), has_kernel=False),
    "without weights": Case(5, None, (nn.LayerNorm(5, elementwise_affine=False), nn.ReLU()), has_kernel=False),
    "norm without bias": Case(5, None, (nn.LayerNorm(5, bias=False),)),
    "nothing": Case(5, None, (nn.Identity(), nn.Dropout(0.0))),
    "another activation": Case(5, None, (nn.SiLU(),), has_kernel=False),
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
    for value in modules_of(case).double().to(device).parameters():
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
    width = case.channels if case.product is None else case.product.in_features
    x_TC = torch.randn(tokens, width, dtype=torch.float64).to(device)
    return x_TC, list(case.layers), {**given, "norm": case.norm, "product": case.product}


def modules_of(case: Case) -> nn.ModuleList:
    return nn.ModuleList([*case.layers, *(one for one in (case.norm, case.product) if one is not None)])


def in_type(case: Case, tokens: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return both results in a type, of parameters in float32."""
    x_TC, layers, given = arguments(case, tokens, device)
    modules_of(case).float()
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
@pytest.mark.parametrize(("dtype", "error"), [(torch.float16, 5e-3), (torch.bfloat16, 4e-2)])
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


@pytest.fixture
def in_double(monkeypatch: pytest.MonkeyPatch, on_card: torch.device) -> torch.device:
    """The device, where the kernel takes double precision too."""
    if on_card.type == "cuda":
        pytest.skip("on a card, double precision runs in plain torch (token_rows._TYPES)")
    monkeypatch.setattr(token_rows, "_TYPES", (torch.float64, torch.float32))
    return on_card


def gradients(case: Case, tokens: int, device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """Return the gradients of tokens, residual, scales and parameters, for random gradients of the results."""
    x_TC, layers, given = arguments(case, tokens, device)
    modules = modules_of(case).to(dtype)
    given = {name: value.to(dtype).detach() if isinstance(value, Tensor) else value for name, value in given.items()}
    values = [x_TC.to(dtype), *(value for value in given.values() if isinstance(value, Tensor))]
    for value in values:
        value.requires_grad_()
    for parameter in modules.parameters():
        parameter.grad = None
    draw = torch.Generator().manual_seed(3)
    found = between_products(values[0], layers, **given)
    factors = (torch.randn(tokens, case.channels, generator=draw, dtype=torch.float64).to(device, dtype) for _ in found)
    sum((one * factor).sum() for one, factor in zip(found, factors, strict=True)).backward()  # type: ignore[union-attr]
    return [value.grad.clone() for value in (*values, *modules.parameters()) if value.grad is not None]


@BY_CASE
@pytest.mark.parametrize("tokens", [0, 1, 37])
def test_gradients_are_those_of_the_layers(case: Case, tokens: int, on_card: torch.device, launches: list[Any]) -> None:
    expected = gradients(case, tokens, on_card, torch.float64)
    assert not launches
    found = gradients(case, tokens, on_card, torch.float32)
    assert len(launches) == (case.has_kernel and case is not CASES["nothing"])
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)


DROPPING = {
    "after the attention": ((nn.LayerNorm(6), nn.Dropout(0.3), LayerScale(6)), nn.LayerNorm(6)),
    "hidden": ((nn.GELU(), nn.Dropout(0.4), nn.LayerNorm(6)), None),
    "both": ((nn.ReLU(), nn.Dropout(0.2), nn.RMSNorm(6), nn.Dropout(0.3)), nn.RMSNorm(6)),
    "dropout alone": ((nn.Dropout(0.5),), None),
}


@pytest.mark.parametrize("name", DROPPING)
def test_what_is_dropped_has_no_gradient(name: str, in_double: torch.device, launches: list[Any]) -> None:
    """The mask is the same in both directions."""
    layers, norm = DROPPING[name]
    torch.manual_seed(0)
    modules = nn.ModuleList([*layers, *([] if norm is None else [norm])]).double()
    values = torch.randn(9, 6).double(), torch.randn(3).double(), torch.randn(9, 6).double(), torch.randn(6).double()

    def work(x_TC: Tensor, scale_H: Tensor, residual_TC: Tensor, kept_C: Tensor, *parameters: Tensor) -> Tensor:
        torch.manual_seed(1)
        others = {"scale_H": scale_H, "residual_TC": residual_TC, "kept_C": kept_C, "norm": norm}
        return torch.cat(between_products(x_TC, layers, **others))  # type: ignore[arg-type]

    inputs = [value.requires_grad_() for value in (*values, *modules.parameters())]
    assert torch.autograd.gradcheck(work, inputs, atol=1e-6, fast_mode=True)
    assert launches


@pytest.mark.parametrize("grad", [False, True])
def test_dropout_keeps_the_mean(grad: bool, on_card: torch.device, launches: list[Any]) -> None:
    x_TC = torch.ones(200, 50, device=on_card)
    with torch.set_grad_enabled(grad):
        found, other = (between_products(x_TC, [nn.Dropout(0.25)])[0] for _ in range(2))
    assert len(launches) == 2
    assert torch.equal(found, torch.where(found == 0, 0.0, torch.full_like(found, 4 / 3)))
    assert (found == 0).double().mean().item() == pytest.approx(0.25, abs=0.02)
    assert not torch.equal(found, other)


def test_a_path_that_may_be_dropped_takes_the_layers(on_card: torch.device, launches: list[Any]) -> None:
    between_products(torch.ones(2, 3, device=on_card), [nn.GELU()], drop=torch.zeros_like)
    between_products(torch.ones(2, 3, device=on_card), [nn.Dropout(1.0)])
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


@BY_OPTIONS
def test_a_training_step_of_every_network_of_weaver(
    changes: dict[str, Any], in_double: torch.device, launches: list[Any]
) -> None:
    """Answers and gradients are those of weaver's layers on padded jets, without dropout."""
    without = {**changes, "block_params": {**changes.get("block_params", {}), **NO_DROPOUT}}
    without["cls_block_params"] = NO_DROPOUT
    without["fc_params"] = [(width, 0.0, *more) for width, _, *more in changes.get("fc_params", ())]
    found = []
    for packed in (False, True):
        torch.manual_seed(2)
        tagger = Tagger(ParticleTransformer(weaver_part(**without)), ["input", 0, 1]).double()
        for layer in tagger.modules():
            if isinstance(layer, nn.RMSNorm):
                layer.eps = 1e-5  # that of the type, unless it is given, and the kernel's is that of float32
        found.append(trained(tagger.packed() if packed else tagger, random_jets((3, 12, 1, 0))))
        assert bool(launches) == packed
    torch.testing.assert_close(found[1], found[0], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-4), (torch.float16, 2e-2), (torch.bfloat16, 1e-1)])
def test_a_block_in_training_is_that_of_plain_torch(
    dtype: torch.dtype, error: float, on_card: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for takes in (False, True):
        monkeypatch.setattr(token_rows, "runs_kernels", lambda tensor, takes=takes: takes)
        torch.manual_seed(2)
        network = weaver_part(block_params=NO_DROPOUT, cls_block_params=NO_DROPOUT, num_layers=2, num_cls_layers=1)
        tagger = Tagger(ParticleTransformer(network), [0]).float().to(on_card).packed()
        jets = random_jets((3, 12, 1, 0), dtype=torch.float32).to(on_card)
        with torch.autocast(on_card.type, dtype, enabled=dtype != torch.float32):
            found.append(trained(tagger, jets))
    assert found[1][1].keys() == found[0][1].keys()
    for name, gradient in found[0][1].items():
        assert (found[1][1][name] - gradient).abs().max() <= error * gradient.abs().max().clamp(min=0.1), name


def test_only_what_fits_runs_as_a_kernel(on_card: torch.device, launches: list[Any]) -> None:
    wide = torch.zeros(1, token_rows.MOST_CHANNELS + 1, device=on_card)
    with torch.no_grad():
        between_products(wide, [nn.GELU()])
    assert not launches
