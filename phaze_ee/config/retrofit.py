"""The configuration of a project whose network was trained elsewhere and gets exits here."""

from collections.abc import Mapping
from typing import Any

from phaze_ee.config.template import render_config

# Everything but the network. The jets are the bundled ones until the user names others.
RETROFIT_VALUES: dict[str, Any] = {
    "train_files": ["sample_jets/train/*.root"],
    "val_files": ["sample_jets/val/*.root"],
    "test_files": ["sample_jets/test/*.root"],
    "exit_head": "deep_sets",
    "exit_loss_strategy": "distill_detached",
    "freeze_backbone": True,
    "beta_max": [1.0],
    "beta_schedule": "switch",
    "zero_epochs": 0,
    # On the bundled jets, 15 epochs: exits 0.58, 0.74, 0.78; with ranger at 0.005 0.49, 0.70, 0.76.
    "epochs": 20,
    "batch_size": 128,
    "lr": 0.005,
    "optimizer": "adamw",
    "lr_schedule": "one_cycle",
    "num_workers": 0,
    "log_interval": 10,
    "epsilon": 0.05,
    "seed": 1,
}

_NOTE = """\
The network is that of the checkpoint in init_from, and stays as it is; exits alone learn. train_files, val_files and
test_files are the bundled jets: name your own, the more the better, and run mode retrofit again. What is marked
[retrofit] fits the checkpoint or the bundled jets."""


def render_retrofit(project: str, network: Mapping[str, Any]) -> str:
    """Return the text of a configuration with these options of the network, ``init_from`` among them."""
    return render_config(project, {**RETROFIT_VALUES, **network}, _NOTE, "retrofit")
