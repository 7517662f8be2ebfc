"""Compares exit heads and losses on a frozen backbone: accuracy of each exit, mean and spread over seeds.

    python benchmarks/heads.py CHECKPOINT --files FILE ... --test-files FILE ...
        [--data-config YAML] [--stages input 0 1] [--epochs 8] [--seeds 3]

CHECKPOINT is a checkpoint of weaver for ParticleNet, such as the published ones. Its features are computed once. Then
every head is trained on them with every exit loss, and some in a cascade. The last epoch is evaluated on --test-files,
which are used for nothing else.
"""

import argparse
import io
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.frozen_options import options_on_features
from phaze_ee.config.options import Options
from phaze_ee.data.loaders import (
    evaluation_loader,
    training_loader,
)
from phaze_ee.data.schema import DataSchema
from phaze_ee.models.build import build_tagger
from phaze_ee.models.checkpoint import load_weights
from phaze_ee.models.frozen import FrozenBackbone
from phaze_ee.models.heads import EXIT_HEADS
from phaze_ee.models.tagger import Tagger
from phaze_ee.names import ExitStage
from phaze_ee.results.training import TrainingHistory
from phaze_ee.training.frozen import with_frozen_features
from phaze_ee.training.loaders import Feed, Loaders
from phaze_ee.training.run import (
    DataRecord,
    Outputs,
    train,
)

CONSOLE = Console(width=80)
LOSSES = ("target_detached", "mimic_detached", "distill_detached")
CACHE_GB = 40.0
BATCH = 256


@dataclass(frozen=True)
class Recipe:
    """A head, its loss, and the link between exits."""

    head: str
    loss: str
    link: str = "independent"


def recipes() -> Iterator[Recipe]:
    """Yield all heads with all losses, then the cascade with the simplest head and with the best."""
    for head in EXIT_HEADS:
        for loss in LOSSES:
            yield Recipe(head, loss)
    for head in ("linear", "deep_sets"):
        for loss in ("target_detached", "distill_detached"):
            yield Recipe(head, loss, "cascade")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--files", nargs="+", type=Path, required=True)
    parser.add_argument("--test-files", nargs="+", type=Path, required=True)
    parser.add_argument("--data-config", type=Path, default=ROOT / "data_configs" / "JetClass_ParT_full.yaml")
    parser.add_argument("--stages", nargs="+", default=["input", "0", "1"])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    return parser.parse_args()


def configuration(stages: Sequence[ExitStage], recipe: Recipe, epochs: int, seed: int) -> Options:
    chosen = {"exit_head": recipe.head, "exit_link": recipe.link, "exit_loss_strategy": recipe.loss}
    return options_on_features(stages, epochs=epochs, seed=seed, batch_size=BATCH, **chosen)


class Shuffled:
    """A training loader whose order depends on the seed."""

    def __init__(self, loader: Any, seed: int) -> None:
        self.loader, self.seed = loader, seed
        self.jet_count = loader.jet_count

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        self.loader.set_epoch(epoch + 1000 * self.seed, first_batch)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Any:
        return iter(self.loader)


def accuracies(walked: Tagger, loaders: Feed[Any], options: Options, folder: Path) -> list[float]:
    """Train fresh exits on stored features; return the accuracy of every exit, the full model last."""
    assert options.seed is not None
    torch.manual_seed(options.seed)
    assert isinstance(walked.backbone, FrozenBackbone)
    tagger = Tagger(walked.backbone.original, options.exit_stages or [], options.exit_head, link=options.exit_link)
    outputs = Outputs(folder / "models", folder / "logs", folder / "history.json", folder / "resume.ckpt", "benchmark")
    own = Feed(Shuffled(loaders.train, options.seed), loaders.val)
    jets, quiet = cast(Loaders, own), Console(file=io.StringIO())  # only their length is used
    stored = (tagger.with_backbone(walked.backbone), own)
    train(tagger, jets, options, outputs, DataRecord({}, ""), torch.device("cpu"), quiet, stored=stored)
    last = TrainingHistory.read(outputs.history, "train").epochs[-1]
    assert last.val_accuracy is not None
    return last.val_accuracy


def main() -> None:
    arguments = parse()
    stages: list[ExitStage] = [stage if stage == "input" else int(stage) for stage in arguments.stages]
    schema = DataSchema.load(arguments.data_config)
    options = configuration(stages, Recipe("linear", "target_detached"), arguments.epochs, 0)
    tagger = build_tagger(options, ROOT / options.network_file, schema.weaver)
    full = build_tagger(options.model_copy(update={"exit_stages": []}), ROOT / options.network_file, schema.weaver)
    load_weights(full, arguments.checkpoint)
    tagger.backbone.load_state_dict(full.backbone.state_dict())
    loaders = Loaders(
        training_loader(schema, arguments.files, batch_size=BATCH, num_workers=0, seed=0),
        evaluation_loader(schema, arguments.test_files, batch_size=1000),
    )
    names = ["inputs" if stage == "input" else f"block {stage}" for stage in stages]
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"{arguments.checkpoint.stem} frozen; accuracy in %, mean ± std over {arguments.seeds} seeds",
    )
    for column in ("head", "exit loss"):
        table.add_column(column)
    for column in (*names, "s"):
        table.add_column(column, justify="right")
    with (
        TemporaryDirectory() as name,
        with_frozen_features(tagger.fastest_form().eval(), loaders, Path(name), CACHE_GB, CONSOLE) as (
            walked,
            stored,
        ),
    ):
        for recipe in recipes():
            start, found = time.monotonic(), []
            for seed in range(arguments.seeds):
                wanted = configuration(stages, recipe, arguments.epochs, seed)
                found.append(accuracies(walked, stored, wanted, Path(name) / f"{table.row_count}_{seed}"))
            mean_E, std_E = 100 * np.mean(found, axis=0), 100 * np.std(found, axis=0, ddof=1 if len(found) > 1 else 0)
            cells = [f"{mean:.1f} ± {std:.1f}" for mean, std in zip(mean_E, std_E, strict=True)]
            head = recipe.head if recipe.link == "independent" else f"{recipe.head} ⇢"
            seconds = (time.monotonic() - start) / arguments.seeds
            table.add_row(head, recipe.loss.removesuffix("_detached"), *cells[:-1], f"{seconds:.0f}")
            print(head, recipe.loss, *cells, f"{seconds:.0f} s", flush=True)
        CONSOLE.print(table)
    CONSOLE.print("⇢ exits in a cascade. s: seconds per training.")
    CONSOLE.print(f"Full model {100 * np.mean(found, axis=0)[-1]:.1f} %. Jets: {loaders.train.jet_count:,} to learn.")


if __name__ == "__main__":
    main()
