"""What needs a GPU: mixed precision in training, and evaluation there against the CPU."""

from pathlib import Path

import pytest
import torch

from phaze_ee.results.training import TrainingHistory
from phaze_ee.training.resume import find_resume_point
from tests.jets import labelled_batch, small_tagger
from tests.training.interrupted import EPOCHS, run

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
@pytest.mark.parametrize("optimizer", ["ranger", "adamw"])
def test_mixed_precision_learns(tmp_path: Path, dtype: str, optimizer: str) -> None:
    if dtype == "bf16" and not torch.cuda.is_bf16_supported():
        pytest.skip("this GPU has no bf16")
    run(tmp_path, {"device": "cuda", "use_amp": True, "amp_dtype": dtype, "optimizer": optimizer})
    epochs = TrainingHistory.read(tmp_path / "history.json", "train").epochs
    assert len(epochs) == EPOCHS
    assert epochs[-1].train_total_loss < epochs[0].train_total_loss


def test_a_state_holds_the_scale_of_the_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phaze_ee.training.run.forget", lambda path: None)
    run(tmp_path, {"device": "cuda", "use_amp": True})
    point = find_resume_point(tmp_path / "resume.ckpt")
    assert point is not None
    content = torch.load(point.path, map_location="cpu", weights_only=True)
    assert content["MixedPrecision"]["scale"] > 0


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
