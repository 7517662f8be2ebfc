"""Compares exits that are trained to reject background with distilled ones, as cascades on a frozen network.

    python benchmarks/reject.py CHECKPOINT --train FOLDER --judge FOLDER ...
        [--signals label_Hbb label_Tbqq label_H4q] [--seeds 3] [--splits 20] [--epochs 12] [--strategies ...]
        [--record FILE]

CHECKPOINT is a checkpoint of weaver for ParticleNet, such as the published ones. The folders hold files of mode
generate. For each signal, exits on the inputs and after blocks 0 and 1 learn from the signal and QCD jets in --train,
on features that are computed once. In each split, half of the jets in --judge calibrate a cascade, which may lose 1 %
of the signal that the full model keeps at 50 % efficiency, with a confidence of 95 %. The others give its mean MACs at
99.9 % QCD. All strategies have the same splits.

A second table says where a difference comes from: the loss of reject_* (mean of the exits), and the QCD jets that pass
exit 0 if its cut loses 1 % of the kept signal of the same jets, for the jets to learn from and those to judge by.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from lightning import Trainer
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.frozen_options import options_on_features
from phaze_ee.config.options import Options
from phaze_ee.data.loaders import evaluation_loader
from phaze_ee.data.schema import DataSchema
from phaze_ee.exits.answers import Answers
from phaze_ee.exits.calibrate import Settings, calibrate, relative_answers
from phaze_ee.exits.costs import ExitCosts
from phaze_ee.exits.scores import log_odds
from phaze_ee.exits.targets import SignalEfficiency
from phaze_ee.models.build import build_tagger
from phaze_ee.models.checkpoint import load_weights
from phaze_ee.models.tagger import Tagger
from phaze_ee.training.frozen import FeatureBatch, FeatureFiles, Features
from phaze_ee.training.lightning import quiet_lightning
from phaze_ee.training.losses import WorkingPoint, make_loss
from phaze_ee.training.module import TaggerModule

CONSOLE = Console(width=80)
QCD, QCD_SHARE = "label_QCD", 0.999
EFFICIENCY, LOST = 0.5, 0.01
STEMS = {QCD: "ZJetsToNuNu", "label_Hbb": "HToBB", "label_Tbqq": "TTBar", "label_H4q": "HToWW4Q"}
BATCH = 128


class Batches:
    """Shuffled batches of some stored jets."""

    def __init__(self, features: Features, index_N: Tensor, seed: int) -> None:
        self.features, self.index_N, self.seed, self.epoch = features, index_N, seed, 0
        self.jet_count = len(index_N)

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.jet_count // BATCH

    def __iter__(self) -> Iterator[FeatureBatch]:
        generator = torch.Generator().manual_seed(1000 * self.seed + self.epoch)
        order_N = self.index_N[torch.randperm(self.jet_count, generator=generator)]
        return map(self.features.batch, torch.split(order_N[: len(self) * BATCH], BATCH))


def configuration(strategy: str, epochs: int, seed: int) -> Options:
    chosen = {"exit_loss_strategy": strategy, "optimizer": "adamw", "lr_schedule": "one_cycle"}
    return options_on_features(["input", 0, 1], epochs=epochs, seed=seed, batch_size=BATCH, **chosen)


def working_point(class_names: Sequence[str], signal: str) -> WorkingPoint:
    return WorkingPoint(class_names.index(signal), class_names.index(QCD), efficiency=EFFICIENCY, lost=LOST)


def of_classes(features: Features, schema: DataSchema, names: Sequence[str]) -> Tensor:
    return torch.isin(features.label_N, torch.tensor([schema.class_names.index(name) for name in names])).nonzero()[
        :, 0
    ]


def trained(features: Features, schema: DataSchema, signal: str, options: Options) -> Tagger:
    """Return fresh exits that have learned from signal and QCD jets."""
    assert options.seed is not None
    torch.manual_seed(options.seed)
    tagger = Tagger(features.tagger.backbone, options.exit_stages or [], options.exit_head)
    batches = Batches(features, of_classes(features, schema, (signal, QCD)), options.seed)
    point = working_point(schema.class_names, signal)
    module = TaggerModule(tagger, options, options, total_steps=options.epochs * len(batches), point=point)
    with quiet_lightning():
        Trainer(
            accelerator="cpu",
            max_epochs=options.epochs,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            use_distributed_sampler=False,
        ).fit(module, train_dataloaders=batches)
    return tagger.eval()


def answers(tagger: Tagger, features: Features, schema: DataSchema, signal: str) -> Answers:
    index_N = of_classes(features, schema, (signal, QCD))
    with torch.inference_mode():
        logits = [tagger(cast(Any, features.batch(part_N).inputs)) for part_N in torch.split(index_N, 1000)]
    count_N = features.count_N[index_N].numpy()
    costs = ExitCosts.of(tagger, count_N)
    label_N = features.label_N[index_N].numpy()
    return Answers(torch.cat(logits, dim=1).numpy(), label_N, count_N, schema.class_names, costs)


def judged(sample: Answers, signal: str, splits: int) -> npt.NDArray[np.float64]:
    """Return for each split: mean MACs as a share of the full model's, kept signal lost, QCD that passes exit 0."""
    prior = {QCD: QCD_SHARE, signal: 1 - QCD_SHARE}
    target = SignalEfficiency(
        epsilon=LOST, signal=signal, background=QCD, efficiency=EFFICIENCY, background_growth=0.5, form="reject"
    )
    found = []
    for split in range(splits):
        order = np.random.default_rng(split).permutation(len(sample))
        half = len(order) // 2
        result = calibrate(
            sample.select(order[:half]), Settings(target, seed=split, class_prior=prior, temperatures=False)
        )
        others = relative_answers(sample.select(order[half:]), prior)
        index_N = others.exit_index(result.policy)
        lost, kept = result.target.risks(others)[0].observed(index_N)
        passes = (index_N[others.of_class(QCD)] > 0).mean()
        found.append([others.costs.mean(index_N, result.policy.exits), lost / kept, passes])
    return np.array(found)


def of_loss(sample: Answers, signal: str) -> tuple[float, float]:
    """Return the loss of reject_* on some jets, and the QCD that passes exit 0 if 1 % of their kept signal is lost."""
    point = working_point(sample.class_names, signal)
    loss = make_loss("reject_detached", configuration("reject_detached", 1, 0), point, sample.exit_count)
    with torch.no_grad():
        value = float(loss(sample.tensor_ENK, torch.from_numpy(sample.label_N)).mean())
    score_EN = log_odds(sample.tensor_ENK, point.signal, point.background).numpy()
    of_signal_N = sample.label_N == point.signal
    kept_N = of_signal_N & (score_EN[-1] >= np.quantile(score_EN[-1, of_signal_N], 1 - EFFICIENCY))
    passes = (score_EN[0, sample.label_N == point.background] >= np.quantile(score_EN[0, kept_N], LOST)).mean()
    return value, float(passes)


def stored(files: FeatureFiles, schema: DataSchema, folders: Sequence[Path], names: Sequence[str]) -> Features:
    paths = [path for folder in folders for name in names for path in sorted(folder.glob(f"{STEMS[name]}_*.root"))]
    for batch in evaluation_loader(schema, paths, batch_size=1000):
        files.add(batch)
    return files.finish()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--train", nargs="+", type=Path, required=True)
    parser.add_argument("--judge", nargs="+", type=Path, required=True)
    parser.add_argument("--signals", nargs="+", default=[name for name in STEMS if name != QCD])
    parser.add_argument("--strategies", nargs="+", default=["distill_detached", "reject_detached"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--record", type=Path, help="a JSON file with the figures of each seed and split")
    parser.add_argument("--data-config", type=Path, default=ROOT / "data_configs" / "JetClass_ParT_full.yaml")
    return parser.parse_args()


def with_spread(values: Sequence[float], factor: float = 100.0) -> str:
    return f"{factor * np.mean(values):.2f} ± {factor * np.std(values, ddof=min(1, len(values) - 1)):.2f}"


@dataclass
class Cell:
    """One training: figures of each split (S, 3), and :func:`of_loss` of the jets to learn from and to judge by."""

    splits: npt.NDArray[np.float64]
    reasons: list[tuple[float, float]]


def titled(title: str, columns: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=title)
    for column in ("signal", "exit loss"):
        table.add_column(column)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def add_rows(table: Table, reasons: Table, signal: str, strategy: str, cells: Sequence[Cell]) -> None:
    figures = np.array([cell.splits.mean(axis=0) for cell in cells]).T
    name = signal.removeprefix("label_")
    table.add_row(name, strategy, *(with_spread(values.tolist()) for values in figures))
    of_jets = np.array([cell.reasons for cell in cells])  # seeds, samples, (loss, QCD)
    losses = [with_spread(of_jets[:, sample, 0].tolist(), 1.0) for sample in (0, 1)]
    passing = [with_spread(of_jets[:, sample, 1].tolist()) for sample in (0, 1)]
    reasons.add_row(name, strategy, *losses, *passing)


def add_difference(table: Table, signal: str, title: str, cells: Sequence[Cell], others: Sequence[Cell]) -> None:
    """Add the difference in MACs of two strategies, over seeds and over the splits, which both have in common."""
    gain_RS = np.array([cell.splits[:, 0] - other.splits[:, 0] for cell, other in zip(cells, others, strict=True)])
    each = ", ".join(f"{100 * value:+.2f}" for value in gain_RS.mean(axis=1))
    over_splits = 100 * gain_RS.mean(axis=0).std(ddof=1)
    name, gain = signal.removeprefix("label_"), with_spread(gain_RS.mean(axis=1).tolist())
    table.add_row(name, title, gain, f"splits ± {over_splits:.2f}", each)


def main() -> None:
    arguments = parse()
    names = [QCD, *arguments.signals]
    schema = DataSchema.load(arguments.data_config)
    options = configuration("target_detached", 1, 0)
    tagger = build_tagger(options, ROOT / options.network_file, schema.weaver)
    full = build_tagger(options.model_copy(update={"exit_stages": []}), ROOT / options.network_file, schema.weaver)
    load_weights(full, arguments.checkpoint)
    tagger.backbone.load_state_dict(full.backbone.state_dict())
    tagger = tagger.fastest_form().eval()
    table = titled(
        f"{arguments.checkpoint.stem} frozen, {arguments.seeds} seeds",
        ["MACs, %", "signal lost, %", "QCD past exit 0, %"],
    )
    reasons = titled(
        "Jets to learn from, and to judge by", ["loss, learn", "loss, judge", "QCD, % learn", "QCD, % judge"]
    )
    record: list[dict[str, Any]] = []
    with (
        TemporaryDirectory() as name,
        FeatureFiles(tagger, Path(name)) as learn,
        FeatureFiles(tagger, Path(name)) as test,
    ):
        learning = stored(learn, schema, arguments.train, names)
        judging = stored(test, schema, arguments.judge, names)
        print(
            "jets to learn from, and to judge by:",
            *(
                f"{name} {len(of_classes(learning, schema, [name])):,} {len(of_classes(judging, schema, [name])):,};"
                for name in names
            ),
            flush=True,
        )
        for signal in arguments.signals:
            cells: dict[str, list[Cell]] = {}
            for strategy in arguments.strategies:
                cells[strategy] = []
                for seed in range(1, arguments.seeds + 1):
                    exits = trained(learning, schema, signal, configuration(strategy, arguments.epochs, seed))
                    samples = [answers(exits, jets, schema, signal) for jets in (learning, judging)]
                    cell = Cell(
                        judged(samples[1], signal, arguments.splits), [of_loss(sample, signal) for sample in samples]
                    )
                    cells[strategy].append(cell)
                    entry = {"signal": signal, "strategy": strategy, "seed": seed, "reasons": cell.reasons}
                    record.append({**entry, "splits": cell.splits.tolist()})
                    print(signal, strategy, seed, *(f"{100 * value:.3f}" for value in cell.splits.mean(axis=0)))
                    print(" ", *(f"{value:.4f}" for pair in cell.reasons for value in pair), flush=True)
                add_rows(table, reasons, signal, strategy, cells[strategy])
            first, *others = cells
            for strategy in others:
                add_difference(table, signal, f"less {first}", cells[strategy], cells[first])
    for shown in (table, reasons):
        CONSOLE.print(shown)
    CONSOLE.print(
        "Mean ± standard deviation over seeds; each is a mean over the splits. Of a difference also ± standard "
        "deviation over splits, of the mean over seeds: splits have jets in common."
    )
    if arguments.record is not None:
        arguments.record.write_text(json.dumps(record), encoding="utf-8")


if __name__ == "__main__":
    main()
