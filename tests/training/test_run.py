"""Whole trainings of a small network on jets in memory."""

import importlib.metadata
import io
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

import phaze_ee
from phaze_ee.config.options import Options
from phaze_ee.errors import RunError
from phaze_ee.machine import resolve_device
from phaze_ee.models.checkpoint import load_checkpoint
from phaze_ee.models.tagger import Tagger
from phaze_ee.names import ExitStage
from phaze_ee.registry import loss_strategies
from phaze_ee.results.training import TrainingHistory
from phaze_ee.training.loaders import Loaders
from phaze_ee.training.losses import WorkingPoint
from phaze_ee.training.resume import find_resume_point
from phaze_ee.training.run import DataRecord, Outputs, installed_versions, train
from phaze_ee.types import JetBatch
from tests.jets import labelled_batch, small_tagger
from tests.training.loader import ListLoader

BATCHES = [labelled_batch(16, seed=seed, shift=0.7) for seed in range(6)]
POINT = WorkingPoint(signal=1, background=0, efficiency=0.5, lost=0.01)
QUICK: dict[str, Any] = {
    "train_files": ["unused"],
    "val_files": ["unused"],
    "epochs": 3,
    "zero_epochs": 1,
    "beta_max": [1.0, 1.0, 1.0],
    "lr": 0.01,
    "seed": 5,
    "device": "cpu",
    "tensorboard": False,
    "num_workers": 0,
}


def outputs(folder: Path) -> Outputs:
    return Outputs(folder / "models", folder / "logs", folder / "history.json", folder / "resume.ckpt", "test/quick")


def run(
    folder: Path,
    *,
    console: Console | None = None,
    exit_stages: tuple[ExitStage, ...] = (0, 1, 2),
    batches: list[JetBatch] = BATCHES,
    validation: int | None = None,
    dropout: float = 0.1,
    **changes: Any,
) -> Tagger:
    beta_max = [1.0] * len(exit_stages)
    options = Options(**{**QUICK, "exit_stages": list(exit_stages), "beta_max": beta_max, **changes})
    backbone = small_tagger(exit_stages, seed=2).backbone
    tagger = Tagger(backbone, exit_stages, options.exit_head, link=options.exit_link).float()
    for module in tagger.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
    count = 4 if validation is None else len(batches) - validation
    loaders = Loaders(ListLoader(batches[:count]), ListLoader(batches[count:]))
    console = console or Console(file=io.StringIO(), width=200)
    train(
        tagger.train(),
        loaders,
        options,
        outputs(folder),
        DataRecord({"inputs": "none"}, "hash"),
        resolve_device(options.device),
        console,
        working=POINT,
    )
    return tagger


def test_training_learns_and_its_checkpoint_answers_alike(tmp_path: Path) -> None:
    tagger = run(tmp_path, epochs=12, optimizer="adamw", lr_schedule="none")
    history = TrainingHistory.read(tmp_path / "history.json", "train")
    first, last = history.epochs[0], history.epochs[-1]
    assert last.train_loss[-1] < first.train_loss[-1]
    assert last.val_accuracy is not None
    assert last.val_accuracy[-1] > 0.5  # chance is 0.25
    latest = load_checkpoint(tmp_path / "models" / "latest_model.pt")
    inputs = BATCHES[0].inputs
    torch.testing.assert_close(latest.tagger(inputs), tagger.eval()(inputs), rtol=0, atol=0)
    assert latest.epoch == 11
    assert latest.options["lr"] == 0.01
    assert latest.data_hash == "hash"
    assert torch.__version__.startswith(latest.versions["torch"])  # which may name its CUDA as well


def test_a_source_tree_trains_without_being_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.metadata.version

    def version(name: str) -> str:
        if name == "phaze-ee":
            raise importlib.metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert installed_versions()["phaze-ee"] == phaze_ee.__version__


@pytest.mark.parametrize("strategy", loss_strategies())
def test_training_without_padding_gives_the_same_losses(tmp_path: Path, strategy: str) -> None:
    # Rounding alone differs, and Adam blows it up where a gradient is nearly zero: hence losses, and a small lr.
    # tests/models/particle_net/test_training.py compares gradients and statistics in double precision.
    losses = []
    for use_packed in (True, False):
        folder = tmp_path / str(use_packed)
        run(folder, use_packed=use_packed, exit_loss_strategy=strategy, optimizer="adamw", lr=1e-4, zero_epochs=0)
        losses.append(
            [epoch.train_total_loss for epoch in TrainingHistory.read(folder / "history.json", "train").epochs]
        )
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("optimizer", ["ranger", "adamw", "adam"])
def test_a_seed_repeats_a_run_bit_for_bit(tmp_path: Path, optimizer: str) -> None:
    first, second = (run(tmp_path / name, optimizer=optimizer).state_dict() for name in ("a", "b"))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("strategy", ["mimic_detached", "target_detached", "distill_detached", "reject_detached"])
def test_detached_exits_leave_the_backbone_as_if_there_were_none(tmp_path: Path, strategy: str) -> None:
    # Clipping bites at this limit, so one common norm would show here.
    changes: dict[str, Any] = {"exit_loss_strategy": strategy, "gradient_clip": 0.05, "zero_epochs": 0}
    with_exits = run(tmp_path / "with", **changes).backbone.state_dict()
    without = run(tmp_path / "without", exit_stages=(), **changes).backbone.state_dict()
    different = [name for name in without if not torch.equal(with_exits[name], without[name])]
    assert different == []


@pytest.mark.parametrize("strategy", ["mimic_flow", "target_flow", "distill_flow", "reject_flow"])
def test_flowing_exits_change_the_backbone(tmp_path: Path, strategy: str) -> None:
    with_exits = run(tmp_path / "with", exit_loss_strategy=strategy).backbone.state_dict()
    without = run(tmp_path / "without", exit_stages=()).backbone.state_dict()
    assert any(not torch.equal(with_exits[name], without[name]) for name in without)


def run_frozen(folder: Path, **changes: Any) -> Tagger:
    stages: tuple[ExitStage, ...] = ("input", 0, 1)
    frozen = {"freeze_backbone": True, "exit_head": "deep_sets", "optimizer": "adamw", "zero_epochs": 0, **changes}
    return run(folder, exit_stages=stages, **frozen)


@pytest.mark.parametrize("strategy", loss_strategies())
@pytest.mark.parametrize("use_packed", [True, False])
def test_a_frozen_backbone_stays_as_it_was_bit_for_bit(tmp_path: Path, strategy: str, use_packed: bool) -> None:
    before = small_tagger(seed=2).float()
    after = run_frozen(tmp_path, exit_loss_strategy=strategy, use_packed=use_packed, epochs=2)
    different = [
        name
        for name, value in before.backbone.state_dict().items()
        if not torch.equal(value, after.backbone.state_dict()[name])
    ]
    assert different == []
    inputs = BATCHES[0].inputs
    with torch.inference_mode():
        for form in (Tagger.fastest_form, lambda tagger: tagger):
            torch.testing.assert_close(form(after.eval())(inputs)[-1], form(before)(inputs)[-1], rtol=0, atol=0)


@pytest.mark.parametrize("feature_cache_gb", [0, 1])
def test_averaged_weights_of_a_frozen_backbone_are_its_own(tmp_path: Path, feature_cache_gb: float) -> None:
    before = small_tagger(seed=2).float().backbone.state_dict()
    run_frozen(tmp_path, ema_decay=0.97, epochs=2, feature_cache_gb=feature_cache_gb)
    for name in ("latest_model.pt", "best_model.pt"):
        after = load_checkpoint(tmp_path / "models" / name).tagger.backbone.state_dict()
        assert [key for key, value in before.items() if not torch.equal(value, after[key])] == []


def test_exits_learn_on_a_frozen_backbone(tmp_path: Path) -> None:
    run_frozen(tmp_path, epochs=20, exit_loss_strategy="target_detached")
    history = TrainingHistory.read(tmp_path / "history.json", "train")
    first, last = history.epochs[0], history.epochs[-1]
    assert last.val_accuracy is not None
    assert all(accuracy > 0.5 for accuracy in last.val_accuracy[:-1])  # chance is 0.25
    assert all(late < early for late, early in zip(last.train_loss[:-1], first.train_loss[:-1], strict=True))
    assert last.train_loss[-1] == pytest.approx(first.train_loss[-1], rel=1e-6)


def test_with_a_frozen_backbone_the_exits_choose_the_best_model(tmp_path: Path) -> None:
    # A learning rate that ruins what was learned: the last epoch is not the best.
    run_frozen(tmp_path, epochs=5, exit_loss_strategy="target_detached", lr=0.5, lr_schedule="none", seed=3)
    history = TrainingHistory.read(tmp_path / "history.json", "train")
    means = [sum(epoch.val_accuracy[:-1]) for epoch in history.epochs if epoch.val_accuracy is not None]
    best = load_checkpoint(tmp_path / "models" / "best_model.pt").epoch
    assert means[best] == max(means) > means[-1]


def test_the_best_model_never_has_untrained_exits(tmp_path: Path) -> None:
    run(tmp_path, epochs=4, zero_epochs=3)
    assert load_checkpoint(tmp_path / "models" / "best_model.pt").epoch == 3


def test_the_last_epoch_is_validated_whatever_the_interval(tmp_path: Path) -> None:
    run(tmp_path, epochs=3, val_interval=50)
    history = TrainingHistory.read(tmp_path / "history.json", "train")
    assert [epoch.val_accuracy is not None for epoch in history.epochs] == [False, False, True]
    assert (tmp_path / "models" / "best_model.pt").is_file()


def test_checkpoints_are_kept_at_the_interval(tmp_path: Path) -> None:
    run(tmp_path, epochs=4, save_interval=2)
    assert {path.name for path in (tmp_path / "models").iterdir()} == {
        "best_model.pt",
        "latest_model.pt",
        "epoch_002.pt",
        "epoch_004.pt",
    }


def test_a_second_training_sets_the_earlier_models_aside(tmp_path: Path) -> None:
    run(tmp_path, epochs=4, save_interval=2)
    models = tmp_path / "models"
    old_best = (models / "best_model.pt").read_bytes()
    run(tmp_path, epochs=2, zero_epochs=1, seed=6)
    assert {path.name for path in models.glob("*.pt")} == {"best_model.pt", "latest_model.pt"}
    assert (models / "previous" / "best_model.pt").read_bytes() == old_best
    assert {path.name for path in (models / "previous").iterdir()} == {"best_model.pt", "epoch_002.pt", "epoch_004.pt"}
    assert load_checkpoint(models / "best_model.pt").options["seed"] == 6


def test_history_holds_the_beta_of_each_epoch(tmp_path: Path) -> None:
    run(tmp_path, epochs=3, zero_epochs=1, beta_schedule="linear")
    history = TrainingHistory.read(tmp_path / "history.json", "train")
    assert [epoch.beta[0] for epoch in history.epochs] == [0.0, 0.5, 1.0]


def test_tensorboard_has_every_loss_accuracy_rate_and_option(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    run(tmp_path, tensorboard=True, log_interval=1, lr=0.01, lr_schedule="cosine")
    events = EventAccumulator(str(tmp_path / "logs" / "train")).Reload()
    tags = set(events.Tags()["scalars"])
    for name in ("exit_0", "exit_1", "exit_2", "full_model"):
        assert {f"train/loss/{name}", f"train/loss/{name}_step", f"val/loss/{name}", f"val/accuracy/{name}"} <= tags
    assert {"beta/exit_0", "beta/exit_1", "beta/exit_2"} <= tags
    assert "hp_metric" not in tags
    rates = [point.value for point in events.Scalars("lr")]
    assert rates[0] == pytest.approx(0.01)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.01
    started = HParamsPluginData.FromString(events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content)
    options = started.session_start_info.hparams
    assert options["lr"].number_value == 0.01
    assert options["exit_stages"].string_value == "[0, 1, 2]"


def test_interrupting_leaves_a_usable_latest_model(tmp_path: Path) -> None:
    class Interrupting(ListLoader):
        def __iter__(self) -> Any:
            yield from self.batches[:2]
            os.kill(os.getpid(), signal.SIGINT)
            yield from self.batches[2:]

    options = Options(**{**QUICK, "exit_stages": [0, 1, 2]})
    loaders = Loaders(Interrupting(BATCHES[:4]), ListLoader(BATCHES[4:]))
    data = DataRecord({}, "hash")
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(RunError, match=r"in epoch 1; the same command continues, and .*latest_model\.pt holds the"):
        train(
            small_tagger().float(),
            loaders,
            options,
            outputs(tmp_path),
            data,
            torch.device("cpu"),
            Console(file=io.StringIO()),
        )
    assert signal.getsignal(signal.SIGINT) is before
    latest = load_checkpoint(tmp_path / "models" / "latest_model.pt")
    assert latest.tagger(BATCHES[0].inputs).isfinite().all()
    point = find_resume_point(tmp_path / "resume.ckpt")
    assert point is not None
    assert (point.epoch, point.batch) == (0, 3)  # the batch that was under way is done


def weights(folder: Path, name: str = "latest_model.pt") -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "models" / name).tagger.state_dict()


def test_early_stopping_ends_after_epochs_without_a_better_model(tmp_path: Path) -> None:
    run(tmp_path, epochs=9, lr=1e-12, early_stopping=2, zero_epochs=1)
    epochs = TrainingHistory.read(tmp_path / "history.json", "train").epochs
    assert len(epochs) < 9
    assert not (tmp_path / "resume.ckpt").exists()


def test_early_stopping_waits_for_a_validation(tmp_path: Path) -> None:
    run(tmp_path, epochs=12, lr=1e-12, early_stopping=2, zero_epochs=0, val_interval=4)
    epochs = TrainingHistory.read(tmp_path / "history.json", "train").epochs
    assert [epoch.val_accuracy is not None for epoch in epochs] == [False, False, False, True] * 2


def test_models_are_of_the_averaged_weights_that_were_validated(tmp_path: Path) -> None:
    tagger = run(tmp_path / "average", ema_decay=0.5, zero_epochs=0, exit_head="linear")
    latest = load_checkpoint(tmp_path / "average" / "models" / "latest_model.pt")
    record = TrainingHistory.read(tmp_path / "average" / "history.json", "train").epochs[-1]
    validation = BATCHES[4:]
    correct = sum(int((latest.tagger(batch.inputs)[-1].argmax(dim=-1) == batch.label_N).sum()) for batch in validation)
    assert record.val_accuracy is not None
    assert correct / sum(map(len, validation)) == pytest.approx(record.val_accuracy[-1])
    plain = run(tmp_path / "plain", zero_epochs=0, exit_head="linear")
    assert not torch.equal(tagger.state_dict()["heads.0.linear.weight"], plain.state_dict()["heads.0.linear.weight"])


def test_gradients_of_several_batches_make_one_step(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"validation": 1, "dropout": 0, "epochs": 2}
    batch, other = BATCHES[0], BATCHES[5]
    of_two = run(tmp_path / "of_two", accumulate_batches=2, batches=[batch, batch, other], **changes)
    alone = run(tmp_path / "alone", batches=[batch, other], **changes)
    start = small_tagger((0, 1, 2), seed=2).float().state_dict()
    for name, value in alone.named_parameters():  # BatchNorm's running statistics see the batch twice
        torch.testing.assert_close(of_two.get_parameter(name), value, rtol=0, atol=1e-6, msg=name)
        assert name not in start or not torch.equal(start[name], value), name


def test_the_last_step_of_an_epoch_weighs_the_batches_that_it_has(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    changes: dict[str, Any] = {"batches": [BATCHES[0], BATCHES[5]], "validation": 1, "dropout": 0, "gradient_clip": 0}
    alone = run(tmp_path / "alone", **changes)
    of_four = run(tmp_path / "of_four", accumulate_batches=4, console=console, **changes)
    assert isinstance(console.file, io.StringIO)
    assert "accumulate_batches = 4, but an epoch has 1: each epoch is one step." in console.file.getvalue()
    for name, value in alone.state_dict().items():
        assert torch.equal(of_four.state_dict()[name], value), name


def test_tasks_of_a_batch_job_are_no_processes_of_this_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"JOB_ID": "7", "JOB_NAME": "jets", "NTASKS": "2", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    for name, value in own.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    run(tmp_path, epochs=1, zero_epochs=0)
    assert (tmp_path / "models/best_model.pt").is_file()
