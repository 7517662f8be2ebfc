"""Training regimes: what learns when, what stays as it was, and which epoch is the best."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from phaze_ee.config.options import Options
from phaze_ee.models.checkpoint import load_checkpoint
from phaze_ee.models.tagger import Tagger
from phaze_ee.results.training import TrainingHistory
from phaze_ee.training.module import TaggerModule
from tests.jets import small_tagger
from tests.training.loader import ListLoader
from tests.training.test_run import BATCHES, QUICK, run

JOINT: dict[str, Any] = {"training_regime": "joint", "exit_loss_strategy": "target_flow", "zero_epochs": 0}
MIXED: dict[str, Any] = {"training_regime": "mixed", "exit_loss_strategy": "target_flow"}
DISJOINT: dict[str, Any] = {"training_regime": "disjoint", "exit_loss_strategy": "target_detached"}
BOOSTED: dict[str, Any] = {"training_regime": "boosted", "zero_epochs": 0}


def history(folder: Path) -> TrainingHistory:
    return TrainingHistory.read(folder / "history.json", "train")


def differing(left: dict[str, Tensor], right: dict[str, Tensor], part: str) -> set[str]:
    return {name for name in left if name.startswith(part) and not torch.equal(left[name], right[name])}


def saved(folder: Path, name: str) -> dict[str, Tensor]:
    return load_checkpoint(folder / "models" / f"{name}.pt").tagger.state_dict()


@pytest.mark.parametrize("optimizer", ["ranger", "adamw"])
@pytest.mark.parametrize("use_packed", [True, False])
def test_disjoint_freezes_the_backbone_for_its_second_phase(tmp_path: Path, optimizer: str, use_packed: bool) -> None:
    run(tmp_path, epochs=3, zero_epochs=1, save_interval=1, optimizer=optimizer, use_packed=use_packed, **DISJOINT)
    first, second, third = (saved(tmp_path, f"epoch_00{epoch}") for epoch in (1, 2, 3))
    assert differing(first, third, "backbone.") == set()  # statistics of normalisations are among them
    heads = {name for name in first if name.startswith("heads.")}
    assert differing(first, second, "heads.") == differing(second, third, "heads.") == heads


def test_exits_of_disjoint_learn_on_the_averaged_full_model_that_is_saved(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "epochs": 4,
        "zero_epochs": 2,
        "save_interval": 1,
        "ema_decay": 0.9,
        "optimizer": "adamw",
    }
    trained = run(tmp_path, **changes, **DISJOINT).state_dict()
    second, third, fourth = (saved(tmp_path, f"epoch_00{epoch}") for epoch in (2, 3, 4))
    assert differing(second, third, "backbone.") == differing(third, fourth, "backbone.") == set()
    assert differing(trained, fourth, "") == set()
    assert differing(third, fourth, "heads.") != set()
    losses = [epoch.train_loss[-1] for epoch in history(tmp_path).epochs]
    assert losses[2] == pytest.approx(losses[3], rel=1e-6)  # of the full model, which no longer changes


def test_disjoint_trains_the_backbone_as_a_training_without_exits_does(tmp_path: Path) -> None:
    disjoint = run(tmp_path / "disjoint", epochs=4, zero_epochs=2, **DISJOINT).backbone.state_dict()
    alone = run(tmp_path / "alone", exit_stages=(), epochs=2, zero_epochs=0).backbone.state_dict()
    assert differing(disjoint, alone, "") == set()


def test_disjoint_leaves_heads_alone_in_its_first_phase_and_starts_its_learning_rates_twice(tmp_path: Path) -> None:
    run(tmp_path, epochs=4, zero_epochs=2, save_interval=1, **DISJOINT)
    assert differing(saved(tmp_path, "epoch_001"), saved(tmp_path, "epoch_002"), "heads.") == set()
    rates = [epoch.learning_rate for epoch in history(tmp_path).epochs]
    assert rates[:2] == rates[2:]
    assert rates[0] > rates[1]
    assert [epoch.beta[0] for epoch in history(tmp_path).epochs] == [0, 0, 1, 1]


def test_disjoint_is_judged_by_the_exits_of_its_second_phase(tmp_path: Path) -> None:
    # A learning rate that ruins what was learned: the last epoch is not the best.
    run(tmp_path, epochs=7, zero_epochs=2, optimizer="adamw", lr=0.5, lr_schedule="none", seed=3, **DISJOINT)
    epochs = history(tmp_path).epochs
    means = [sum(epoch.val_accuracy[:-1]) if epoch.val_accuracy is not None else 0 for epoch in epochs]
    best = load_checkpoint(tmp_path / "models" / "best_model.pt").epoch
    assert best >= 2
    assert means[best] == max(means[2:])
    assert len({epoch.val_accuracy[-1] for epoch in epochs[2:] if epoch.val_accuracy is not None}) == 1


@pytest.mark.parametrize("regime", [JOINT, {**MIXED, "zero_epochs": 1}, BOOSTED], ids=["joint", "mixed", "boosted"])
def test_the_full_model_chooses_where_it_learns_with_the_exits(tmp_path: Path, regime: dict[str, Any]) -> None:
    run(tmp_path, epochs=4, optimizer="adamw", **regime)
    epochs = history(tmp_path).epochs
    accuracies = [epoch.val_accuracy[-1] for epoch in epochs if epoch.val_accuracy is not None and any(epoch.beta)]
    best = load_checkpoint(tmp_path / "models" / "best_model.pt").epoch
    assert accuracies[best - regime["zero_epochs"]] == max(accuracies)


def test_mixed_is_the_backbone_alone_until_the_exits_join(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"epochs": 2, "save_interval": 1, "optimizer": "adamw"}
    run(tmp_path / "mixed", zero_epochs=1, **changes, **MIXED)
    run(tmp_path / "alone", exit_stages=(), zero_epochs=0, **changes)
    assert [epoch.beta[0] for epoch in history(tmp_path / "mixed").epochs] == [0, 1]
    mixed, alone = ([saved(tmp_path / name, f"epoch_00{epoch}") for epoch in (1, 2)] for name in ("mixed", "alone"))
    assert differing(alone[0], mixed[0], "backbone.") == set()
    assert differing(alone[1], mixed[1], "backbone.") != set()


@pytest.mark.parametrize("regime", [JOINT, BOOSTED], ids=["joint", "boosted"])
def test_joint_exits_learn_with_full_weight_from_the_first_epoch_on(tmp_path: Path, regime: dict[str, Any]) -> None:
    run(tmp_path, epochs=6, optimizer="adamw", lr=0.02, **regime)
    epochs = history(tmp_path).epochs
    assert {epoch.beta[0] for epoch in epochs} == {1.0}
    assert all(late < early for late, early in zip(epochs[-1].train_loss, epochs[0].train_loss, strict=True))


@pytest.mark.parametrize("regime", [DISJOINT, {"freeze_backbone": True, "zero_epochs": 0}], ids=["disjoint", "frozen"])
def test_a_cascade_learns_on_a_frozen_backbone(tmp_path: Path, regime: dict[str, Any]) -> None:
    tagger = run(tmp_path, **{"epochs": 2, "zero_epochs": 1, "exit_link": "cascade", **regime})
    fresh = Tagger(small_tagger(seed=2).backbone, (0, 1, 2), link="cascade").link.state_dict()
    assert differing(tagger.link.state_dict(), fresh, "") == set(fresh)


def test_the_loss_of_a_cascade_is_that_of_the_exits_and_of_their_ensembles() -> None:
    tagger = Tagger(small_tagger(seed=2).backbone, (0, 1, 2), link="cascade").float().eval()
    for parameter in tagger.link.parameters():
        torch.nn.init.normal_(parameter)
    options = Options(**{**QUICK, "exit_stages": [0, 1, 2], "exit_loss_strategy": "target_flow"})
    loss_E = TaggerModule(tagger, options, options, total_steps=10).terms(BATCHES[0]).loss_E
    for exit_, loss in zip(tagger.walk(BATCHES[0].inputs), loss_E, strict=True):
        parts = [exit_.trained_NK] if exit_.is_full_model else [exit_.trained_NK, exit_.logits_NK]
        nll = [-logits_NK.log_softmax(dim=1)[range(16), BATCHES[0].label_N].mean() for logits_NK in parts]
        torch.testing.assert_close(loss, torch.stack(nll).sum())


class _SeededLoader(ListLoader):
    """Starts dropout anew in each epoch, so that a training that goes on compares with one that never stopped."""

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        torch.manual_seed(epoch)


class _SavedAfter(Callback):
    """Saves Lightning's whole state after an epoch."""

    def __init__(self, path: Path, epoch: int) -> None:
        self.path, self.epoch = path, epoch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == self.epoch:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_a_disjoint_training_goes_on_from_either_phase_and_from_between(tmp_path: Path, epoch: int) -> None:
    changes: dict[str, Any] = {"epochs": 4, "zero_epochs": 2, "optimizer": "adamw", **DISJOINT}
    options = Options(**{**QUICK, "exit_stages": [0, 1], "beta_max": 1, **changes})
    path = tmp_path / "state.ckpt"

    def fit(goes_on: bool) -> dict[str, Tensor]:
        torch.manual_seed(1)
        tagger = Tagger(small_tagger(seed=2).backbone, (0, 1)).float().train()
        module = TaggerModule(tagger, options, options, total_steps=16)
        callbacks: list[Callback] = [] if goes_on else [_SavedAfter(path, epoch)]
        silent: dict[str, Any] = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
        trainer = Trainer(max_epochs=4, accelerator="cpu", callbacks=callbacks, enable_checkpointing=False, **silent)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            trainer.fit(module, _SeededLoader(BATCHES[:4]), ckpt_path=path if goes_on else None)
        return tagger.state_dict()

    whole = fit(goes_on=False)
    assert differing(whole, fit(goes_on=True), "") == set()
