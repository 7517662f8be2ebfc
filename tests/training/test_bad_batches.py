"""Batches whose loss is not finite: they stop a training with the reason, or are skipped."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from phaze_ee.errors import RunError, UsageError
from phaze_ee.models.checkpoint import load_checkpoint
from phaze_ee.training.module import TaggerModule
from phaze_ee.types import JetBatch, JetInputs
from tests.training.interrupted import before_step
from tests.training.test_run import BATCHES, run


def bad_batch() -> JetBatch:
    batch, jets = BATCHES[1], BATCHES[1].inputs.padded()
    return replace(batch, inputs=replace(jets, features=torch.full_like(jets.features, torch.inf)))


def test_a_loss_that_is_not_finite_stops_with_the_reason(tmp_path: Path) -> None:
    poisoned = BATCHES[1].inputs.padded()
    features = poisoned.features.clone()
    features[3, 2, 0] = float("nan")
    bad = JetBatch(JetInputs(poisoned.points, features, poisoned.vectors, poisoned.mask), BATCHES[1].label_N)
    with pytest.raises(RunError, match=r"not finite in epoch 1, batch 2 \(.*full_model nan.*again with --fresh$"):
        run(tmp_path, batches=[BATCHES[0], bad, *BATCHES[2:]])


def test_in_a_later_epoch_the_network_before_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(module: TaggerModule) -> None:
        for parameter in module.parameters():
            parameter.data.fill_(float("nan"))

    before_step(monkeypatch, "training_step", 1, 0, spoil)
    with pytest.raises(RunError, match=r"not finite in epoch 2, .*; latest_model\.pt holds the last whole epoch$"):
        run(tmp_path)
    assert load_checkpoint(tmp_path / "models" / "latest_model.pt").epoch == 0


def test_a_skipped_batch_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    steady: dict[str, Any] = {"epochs": 2, "zero_epochs": 0, "lr_schedule": "none", "optimizer": "adamw"}
    first, *_, validation = BATCHES
    with_bad = [first, bad_batch(), BATCHES[2], BATCHES[3], validation]
    found = run(tmp_path / "with", batches=with_bad, skip_nan_batches=2, dropout=0, **steady)
    expected = run(
        tmp_path / "without", batches=[first, BATCHES[2], BATCHES[3], validation], validation=1, dropout=0, **steady
    )
    assert "the batch is skipped (2 of 2)" in caplog.text
    for name, value in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name


@pytest.mark.parametrize("order", ["good bad", "bad good", "good good bad"])
def test_the_other_batches_of_a_step_count_in_full(tmp_path: Path, order: str) -> None:
    steady: dict[str, Any] = {"epochs": 2, "zero_epochs": 0, "lr_schedule": "none", "dropout": 0, "gradient_clip": 0}
    others, validation = iter((BATCHES[0], BATCHES[2])), BATCHES[-1:]
    batches = [bad_batch() if kind == "bad" else next(others) for kind in order.split()]
    good = [batch for batch, kind in zip(batches, order.split(), strict=True) if kind == "good"]
    changes = {"validation": 1, "accumulate_batches": 2, "optimizer": "adamw", **steady}
    found = run(tmp_path / "with", batches=[*batches, *validation], skip_nan_batches=2, **changes)
    expected = run(tmp_path / "without", batches=[*good, *validation], **changes)
    for name, value in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name


def test_an_epoch_without_a_good_batch_ends_the_training(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="all batches of epoch 1 were skipped, because no loss is finite"):
        run(tmp_path, batches=[bad_batch(), bad_batch(), BATCHES[5]], validation=1, skip_nan_batches=5)
    assert not list((tmp_path / "models").glob("*.pt"))


def test_several_processes_skip_no_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match=r"this training has 2; set skip_nan_batches = 0"):
        run(tmp_path, skip_nan_batches=1)


def test_a_loss_that_is_not_finite_leaves_the_batch_for_a_look(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"the batch is kept in .*bad_batch\.pt"):
        run(tmp_path, batches=[BATCHES[0], bad_batch(), *BATCHES[2:]])
    kept = torch.load(tmp_path / "models" / "bad_batch.pt", weights_only=True)
    assert torch.isinf(kept["features"]).all()
    assert torch.equal(kept["label_N"], BATCHES[1].label_N)
