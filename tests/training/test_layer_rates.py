"""Layers that learn at a rate of their own, or not at all."""

from pathlib import Path
from typing import Any

import pytest
import torch

from phaze_ee.config.options import ExitOptions, TrainingOptions
from phaze_ee.errors import UsageError
from phaze_ee.training.module import TaggerModule
from phaze_ee.training.optim import parameter_groups
from tests.jets import small_tagger
from tests.training.test_run import BATCHES, run

ONE_STEP: dict[str, Any] = {
    "epochs": 1,
    "zero_epochs": 0,
    "batches": [BATCHES[0], BATCHES[5]],
    "validation": 1,
    "dropout": 0,
    "optimizer": "adamw",
    "weight_decay": 0,
    "gradient_clip": 0,
    "lr_schedule": "none",
    "lr": 1e-4,
}


def changes(folder: Path, **more: Any) -> dict[str, torch.Tensor]:
    """Return by how much each parameter has changed in one step."""
    before = dict(small_tagger((0, 1, 2), seed=2).float().named_parameters())
    after = run(folder / "moved", **ONE_STEP, **more).named_parameters()
    return {name: (value - before[name]).abs().amax() for name, value in after if name in before}


def test_the_first_step_is_as_long_as_the_rate_of_the_layer(tmp_path: Path) -> None:
    found = changes(tmp_path, lr_factors={"mod.fc": 50, "mod.edge_convs.0": 0, "mod.edge_convs": 3, "heads.1": 7})
    for name, change in found.items():  # Adam's first step is the rate, whatever the gradient
        factor = (
            50 if ".fc." in name else 0 if ".edge_convs.0." in name else 3 if ".edge_convs." in name
            else 7 if name.startswith("heads.1.") else 1
        )  # fmt: skip
        assert change.item() == pytest.approx(factor * 1e-4, rel=0.05, abs=1e-9), name


def test_a_layer_with_rate_0_is_frozen_bit_for_bit(tmp_path: Path) -> None:
    start = small_tagger((0, 1, 2), seed=2).float().state_dict()
    trained = run(tmp_path, lr_factors={"mod.edge_convs.0": 0}, use_packed=True).state_dict()
    frozen = [name for name in start if ".edge_convs.0." in name and "running" not in name and "tracked" not in name]
    assert frozen
    assert all(torch.equal(start[name], trained[name]) for name in frozen)
    assert not torch.equal(
        start["backbone.mod.edge_convs.1.convs.0.weight"], trained["backbone.mod.edge_convs.1.convs.0.weight"]
    )


def test_groups_without_factors_are_those_of_earlier_versions() -> None:
    decayed, spared = parameter_groups(small_tagger(), 0.3, 0.1)
    assert (decayed["lr"], spared["lr"]) == (0.1, 0.1)


def test_a_network_that_learns_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"lr_factors freezes the whole network; set c\.freeze_backbone = True"):
        run(tmp_path, lr_factors={"mod": 0})


def test_a_layer_that_is_not_there_is_refused() -> None:
    options = ExitOptions.model_validate({"beta_max": [1.0]})
    training = TrainingOptions.model_validate({"lr_factors": {"mod.head": 2}})
    with pytest.raises(
        UsageError, match=r"lr_factors names 'mod\.head', which the network does not have; did you mean 'heads'"
    ):
        TaggerModule(small_tagger((0,)), options, training, 10)
