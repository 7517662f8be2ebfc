"""The options of trainings on stored features of a frozen network, which several measurements share."""

from collections.abc import Sequence
from typing import Any

from phaze_ee.config.options import Options
from phaze_ee.names import ExitStage


def options_on_features(
    stages: Sequence[ExitStage], *, epochs: int, seed: int, batch_size: int, **others: Any
) -> Options:
    """Return options with which exits learn from features that are already computed, on one CPU core.

    Args:
        stages: after which there are exits.
        epochs: the number of epochs; validation and checkpoints come with the last.
        seed: of the weights and the order of jets.
        batch_size: jets in a batch.
        others: more options, by name.
    """
    values: dict[str, Any] = {
        "train_files": ["-"],
        "val_files": ["-"],
        "exit_stages": list(stages),
        "beta_max": [1.0],
        "freeze_backbone": True,
        "feature_cache_gb": 0,  # already computed
        "epochs": epochs,
        "val_interval": epochs,
        "save_interval": epochs,
        "lr": 0.005,
        "batch_size": batch_size,
        "seed": seed,
        "device": "cpu",
        "tensorboard": False,
        "num_workers": 0,
    }
    return Options(**{**values, **others})
