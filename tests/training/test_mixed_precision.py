"""Trainings in half precision: on CUDA where there is a card, and through the same code on the CPU."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.plugins import MixedPrecision

from phaze_ee.results.training import TrainingHistory
from phaze_ee.training.resume import find_resume_point
from tests.training.interrupted import EPOCHS, run

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"))]
FP16, BF16 = "fp16", "bf16"
ALL_FEATURES: dict[str, Any] = {"gradient_clip": 1.0, "ema_decay": 0.9, "accumulate_batches": 2}


@pytest.fixture(params=[FP16, BF16])
def dtype(request: pytest.FixtureRequest) -> str:
    """The precision; a test may choose some."""
    return str(request.param)


@pytest.fixture(params=DEVICES)
def mixed(request: pytest.FixtureRequest, dtype: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The options of a device. Mixed precision is off on the CPU; here Lightning has it there too."""
    device = str(request.param)
    if device == "cpu":

        def trainer(*, plugins: list[Any], half: bool, **arguments: Any) -> Trainer:
            return Trainer(plugins=[*plugins, *([on_cpu(dtype)] if half else [])], **arguments)

        hardware = "phaze_ee.training.run.hardware"
        monkeypatch.setattr(hardware, lambda options, device: {"accelerator": "cpu", "half": options.use_amp})
        monkeypatch.setattr("phaze_ee.training.run.Trainer", trainer)
    elif dtype == BF16 and not torch.cuda.is_bf16_supported():
        pytest.skip("this GPU has no bf16")
    return {"device": device, "use_amp": True, "amp_dtype": dtype}


def on_cpu(dtype: str) -> MixedPrecision:
    """Lightning's mixed precision on the CPU, where it has no scaler of its own."""
    return (
        MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
        if dtype == FP16
        else MixedPrecision("bf16-mixed", "cpu")
    )


def losses(folder: Path) -> list[float]:
    """The losses of the full model; the total loss grows while the weights of the exits do."""
    return [epoch.train_loss[-1] for epoch in TrainingHistory.read(folder / "history.json", "train").epochs]


@pytest.mark.parametrize("changes", [{"optimizer": "ranger", "lr": 0.1}, {"optimizer": "adamw", **ALL_FEATURES}])
def test_mixed_precision_learns(tmp_path: Path, mixed: dict[str, Any], changes: dict[str, Any]) -> None:
    run(tmp_path, mixed | changes)
    found = losses(tmp_path)
    assert len(found) == EPOCHS
    assert found[-1] < found[0]


def test_the_losses_are_those_of_float32(tmp_path: Path, mixed: dict[str, Any], dtype: str) -> None:
    # A low rate: where a gradient is nearly zero, rounding decides the direction in which Adam steps.
    steady = {"optimizer": "adamw", "lr": 1e-4, "lr_schedule": "none", "zero_epochs": 0}
    run(tmp_path / "half", mixed | steady)
    run(tmp_path / "float32", {"device": mixed["device"], "use_amp": False, **steady})
    allowed = 0.01 if dtype == FP16 else 0.05
    assert losses(tmp_path / "half") == pytest.approx(losses(tmp_path / "float32"), rel=allowed)
    assert losses(tmp_path / "half") != losses(tmp_path / "float32")


@pytest.mark.parametrize("dtype", [FP16], indirect=True)
@pytest.mark.parametrize("first_scale", [2.0**10, 2.0**24])
def test_a_state_holds_the_scale_of_the_loss(
    tmp_path: Path, mixed: dict[str, Any], first_scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the larger scale the first steps overflow. The optimiser takes no step then, and its schedule does."""
    monkeypatch.setattr("phaze_ee.training.run.forget", lambda path: None)
    monkeypatch.setattr(torch.amp, "GradScaler", partial(torch.amp.GradScaler, init_scale=first_scale))
    run(tmp_path, mixed)
    point = find_resume_point(tmp_path / "resume.ckpt")
    assert point is not None
    scale = torch.load(point.path, map_location="cpu", weights_only=True)["MixedPrecision"]["scale"]
    assert scale == first_scale if first_scale == 2.0**10 else 0 < scale < first_scale
    assert all(map(math.isfinite, losses(tmp_path)))
