"""The precision of products: where it is refused, which settings it makes, and that it reaches the network's products.

Only a CUDA device has other precisions than float32. Autocast works on a CPU too, so tests lift the check there.
"""

from collections.abc import Iterator

import pytest
import torch

from phaze_ee.engine.engine import Engine
from phaze_ee.errors import UsageError
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.scores import ExitScore
from phaze_ee.machine import Precision
from phaze_ee.models.precision import checked_precision, float32_products
from phaze_ee.types import JetInputs
from tests.jets import random_jets, small_tagger

CUDA = torch.device("cuda")
HALVES: list[Precision] = ["float16", "bfloat16"]
ROUNDING = {"float16": 5e-3, "bfloat16": 5e-2}


@pytest.fixture
def jets() -> JetInputs:
    jets = random_jets((3, 30, 1, 0, 17, 5))
    return jets.map(lambda tensor: tensor.float() if tensor.is_floating_point() else tensor)


@pytest.fixture
def _anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phaze_ee.engine.engine.checked_precision", lambda precision, device: precision)


@pytest.fixture
def _same_settings() -> Iterator[None]:
    before = settings()
    yield
    assert settings() == before


def settings() -> tuple[bool, ...]:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    return (
        matmul.allow_tf32,
        cudnn.allow_tf32,
        matmul.allow_fp16_reduced_precision_reduction,
        matmul.allow_bf16_reduced_precision_reduction,
    )


@pytest.mark.parametrize("precision", ["tf32", "float16", "bfloat16"])
def test_a_cpu_has_float32_only(precision: Precision) -> None:
    with pytest.raises(UsageError, match=f"precision = '{precision}' needs a CUDA device, .* set precision to 'float"):
        Engine(small_tagger(), precision=precision)


def test_a_precision_that_does_not_exist() -> None:
    with pytest.raises(UsageError, match="unknown precision 'fp8'; choose from float32, tf32, float16, bfloat16"):
        Engine(small_tagger(), precision="fp8")  # type: ignore[arg-type]


def test_an_old_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    assert checked_precision("float16", CUDA) == "float16"
    for precision in ("tf32", "bfloat16"):
        with pytest.raises(UsageError, match="Tesla T4 is older: set precision to 'float32' or 'float16'"):
            checked_precision(precision, CUDA)


@pytest.mark.usefixtures("_same_settings")
@pytest.mark.parametrize(("precision", "tf32"), [("float32", False), ("tf32", True), ("float16", False)])
def test_settings_of_products_hold_for_a_call(precision: Precision, tf32: bool) -> None:
    def fails() -> None:
        with float32_products(precision, CUDA):
            assert settings() == (tf32, tf32, False, False)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()


@pytest.mark.usefixtures("_same_settings")
def test_a_cpu_keeps_its_settings() -> None:
    before = settings()
    with float32_products("float32", torch.device("cpu")):
        assert settings() == before


@pytest.mark.usefixtures("_anywhere")
@pytest.mark.parametrize("backend", ["auto", "given"])
@pytest.mark.parametrize("precision", HALVES)
def test_operands_are_halved_and_answers_are_float32(precision: Precision, backend: str, jets: JetInputs) -> None:
    tagger = small_tagger((0, 1)).float()
    exact, halved = (Engine(tagger, backend=backend, precision=one) for one in ("float32", precision))  # type: ignore[arg-type]
    with torch.no_grad():
        pairs = [(engine.every_exit(jets), engine(jets).logits_NK) for engine in (exact, halved)]
    for expected, found in zip(*pairs, strict=True):
        assert found.dtype == torch.float32
        assert 0 < (found - expected).abs().max() < ROUNDING[precision] * expected.abs().max()


class Precise(ExitScore):
    """A score that needs a product, as the gate does: it must see float32, and compute in float32."""

    name: str = "precise"

    def __call__(self, logits_ENK: torch.Tensor) -> torch.Tensor:
        assert not torch.is_autocast_enabled("cpu")
        assert logits_ENK.dtype == torch.float32
        return logits_ENK[-1] @ logits_ENK.new_ones(logits_ENK.shape[-1])


@pytest.mark.usefixtures("_anywhere")
def test_the_policy_decides_in_float32(jets: JetInputs) -> None:
    engine = Engine(small_tagger((0, 1)).float(), ThresholdPolicy(Precise(), [0.0, 0.0]), precision="bfloat16")
    with torch.no_grad():
        assert engine(jets).logits_NK.dtype == torch.float32
    assert not torch.is_autocast_enabled("cpu")


def test_a_policy_holds_in_its_precision() -> None:
    calibrated = ThresholdPolicy("confidence", [0.5, 0.5], precision="bfloat16")
    for policy in (calibrated, calibrated.capped(1)):
        with pytest.raises(UsageError, match=r"calibrated with precision = 'bfloat16'.* 'float32': set precision to"):
            Engine(small_tagger((0, 1)), policy)
    Engine(small_tagger((0, 1)), ThresholdPolicy("confidence", [0.5, 0.5]))
