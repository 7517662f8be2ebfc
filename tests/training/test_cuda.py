"""What needs a GPU: the answers, a training step and whole trainings there against those of the CPU."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from phaze_ee.models.particle_transformer import ParticleTransformer
from phaze_ee.models.precision import float32_products
from phaze_ee.models.tagger import Tagger
from phaze_ee.registry import loss_strategies
from phaze_ee.results.training import TrainingHistory
from tests.jets import labelled_batch, random_jets, small_tagger
from tests.models.test_particle_transformer import weaver_part
from tests.models.training_step import NO_DROPOUT, trained
from tests.training.test_run import run

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


FLOAT32: dict[str, Any] = {"use_amp": False, "optimizer": "adamw", "lr": 1e-4, "zero_epochs": 0, "dropout": 0.0}
WAYS: dict[str, dict[str, Any]] = {
    **{strategy: {"exit_loss_strategy": strategy} for strategy in loss_strategies()},
    "disjoint": {"training_regime": "disjoint", "exit_loss_strategy": "target_detached", "zero_epochs": 1},
    "frozen": {"freeze_backbone": True, "exit_loss_strategy": "target_detached", "exit_head": "deep_sets"},
    "clipping, averaging, accumulation": {"gradient_clip": 0.5, "ema_decay": 0.9, "accumulate_batches": 2},
}


@pytest.fixture(autouse=True)
def ieee_products() -> Iterator[None]:
    """Products as on the CPU: torch lets convolutions on CUDA use TF32."""
    with float32_products("float32", torch.device("cuda")):
        yield


def test_answers_on_the_gpu_are_those_of_the_cpu() -> None:
    tagger, jets = small_tagger(), labelled_batch(32, dtype=torch.float64).inputs
    with torch.inference_mode():
        expected = tagger(jets)
        found = tagger.to("cuda")(jets.to(torch.device("cuda")))
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-9, atol=1e-9)


def test_a_training_step_without_padding_is_that_of_the_cpu() -> None:
    losses, gradients = [], []
    for device in ("cpu", "cuda"):
        tagger = small_tagger(fc_params=[(16, 0.0)]).to(device).packed().train()  # dropout draws differ
        batch = labelled_batch(32, dtype=torch.float64)
        torch.manual_seed(1)
        loss = tagger(batch.inputs.to(device)).square().mean()
        loss.backward()
        losses.append(loss.detach().cpu())
        gradients.append([value.grad.cpu() for value in tagger.parameters() if value.grad is not None])
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_step_of_a_transformer_on_the_gpu_is_that_of_the_padded_form(dtype: torch.dtype) -> None:
    """In float32 with the attention kernel, in float64 in plain torch."""
    error = 1e-9 if dtype == torch.float64 else 1e-3
    found = []
    for on_card in (False, True):
        torch.manual_seed(1)
        tagger = Tagger(ParticleTransformer(weaver_part(block_params=NO_DROPOUT)), [0]).to(dtype)
        jets = random_jets((3, 140, 1, 0, 33), length=140, dtype=dtype)
        if on_card:
            tagger, jets = tagger.to("cuda").packed(), jets.to("cuda")
        found.append([[value.cpu() for value in values.values()] for values in trained(tagger, jets)[1:]])
    torch.testing.assert_close(found[1], found[0], rtol=error, atol=error)


@pytest.mark.parametrize("changes", WAYS.values(), ids=WAYS.keys())
def test_a_training_on_the_gpu_has_the_losses_of_the_cpu(tmp_path: Path, changes: dict[str, Any]) -> None:
    losses = []
    for device, use_packed in (("cpu", True), ("cuda", True), ("cuda", False)):
        folder = tmp_path / f"{device}{use_packed}"
        run(folder, **{**FLOAT32, **changes}, device=device, use_packed=use_packed)
        history = TrainingHistory.read(folder / "history.json", "train")
        losses.append([epoch.train_total_loss for epoch in history.epochs])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert losses[2] == pytest.approx(losses[0], rel=1e-3)
