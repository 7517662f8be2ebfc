"""``train`` from the cache to the step, beside the bare step and the bare loader: the same jets, network and options.

The jets are random, with the multiplicities of JetClass. They are converted once, and their cache is read with worker
processes, as in a training. It needs all libraries of the package.
"""

import io
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from benchmarks.gpu_sections.parts import CLASSES, Setting
from benchmarks.gpu_sections.rows import LOADER, STEP, TRAIN, Row
from benchmarks.gpu_sections.timing import attempt, measured
from benchmarks.gpu_sections.training import step_of
from phaze_ee.config.sections import ExitOptions
from phaze_ee.models.tagger import Tagger
from phaze_ee.training.losses import make_loss

_FILE_JETS, _COPIES, _WORKERS, _EPOCHS = 20_000, 20, 2, 2
_CONFIG = Path(__file__).parents[2] / "data_configs" / "JetClass_full.yaml"


def rows(setting: Setting, section: str) -> Iterator[Row]:
    """Yield the rates of the loader, of the bare step and of the training."""
    precision = "bfloat16" if setting.device.type == "cuda" else "float32"
    with tempfile.TemporaryDirectory() as folder:
        made: list[Any] = []

        def loader() -> Row:
            made.append(_loader(setting, Path(folder)))
            return _loader_row(setting, section, precision, made[0])

        yield attempt(section, LOADER, precision, loader)
        if made:
            yield attempt(section, STEP, precision, partial(_step_row, setting, section, precision, made[0]))
            yield attempt(section, TRAIN, precision, partial(_train_row, setting, section, precision, made[0], folder))


def _loader(setting: Setting, folder: Path) -> Any:
    """Return a loader of the cache of files that repeat the same jets under several names."""
    from phaze_ee.data.cache.build import Job, build_cache
    from phaze_ee.data.loaders import training_loader
    from phaze_ee.data.schema import DataSchema
    from tests.jetclass_files import write_jetclass_root

    jets = replace(setting, shared=None, device=torch.device("cpu")).jets(200 if setting.tiny else _FILE_JETS)
    vectors = jets.padded.vectors
    assert vectors is not None
    first = folder / "0.root"
    write_jetclass_root(first, vectors.numpy(), jets.padded.points.numpy(), jets.label_N.numpy())
    files = [first, *(folder / f"{number}.root" for number in range(1, 2 if setting.tiny else _COPIES))]
    for path in files[1:]:
        path.symlink_to(first)
    schema = DataSchema.load(_CONFIG)
    cache = build_cache(folder / "cache", Job(schema, schema, files, training=True))
    workers = 0 if setting.tiny else min(_WORKERS, os.cpu_count() or 1)
    return training_loader(cache.schema, files, batch_size=setting.batch, num_workers=workers, seed=1, cache=cache)


@dataclass(frozen=True)
class _Few:
    """The first batch of a loader, to validate with."""

    loader: Any

    def __iter__(self) -> Iterator[Any]:
        return islice(self.loader, 1)


def _loader_row(setting: Setting, section: str, precision: str, loader: Any) -> Row:
    rates = []
    for epoch in range(_EPOCHS):  # the first one starts the workers and compiles
        loader.set_epoch(epoch)
        begin, jets = time.perf_counter(), sum(map(len, loader))
        rates.append(jets / (time.perf_counter() - begin))
    return Row(section, LOADER, precision, setting.batch, rates[-1])


def _tagger(setting: Setting, loader: Any) -> Tagger:
    """Return the network of the section "training ParticleNet", for the variables of these jets."""
    from weaver.nn.model.ParticleNet import ParticleNet as WeaverParticleNet

    from phaze_ee.models.particle_net.padded import ParticleNet

    channels = next(iter(loader)).inputs.features_VC.shape[1]
    widths = (4, 4, 8) if setting.tiny else (64, 128, 256)
    blocks = [(4 if setting.tiny else 16, (width,) * 3) for width in widths]
    torch.manual_seed(0)
    module: Any = WeaverParticleNet(channels, CLASSES, conv_params=blocks, fc_params=[(widths[-1], 0.1)], trim=False)
    return Tagger(ParticleNet(module), (0, 1, 2))


def _step_row(setting: Setting, section: str, precision: Any, loader: Any) -> Row:
    tagger = _tagger(setting, loader).to(setting.device).fastest_form().train()
    batch = next(iter(loader))
    inputs, label_N = batch.inputs.to(setting.device), batch.label_N.to(setting.device)
    exit_loss = make_loss("target_flow", ExitOptions())

    def loss() -> torch.Tensor:
        logits_ENK = tagger(inputs).float()
        return cross_entropy(logits_ENK[-1], label_N) + exit_loss(logits_ENK, label_N).sum()

    seconds, memory = measured(step_of(tagger, loss, precision, setting.device), setting.rounds, setting.device)
    return Row(section, STEP, precision, len(batch), len(batch) / seconds, memory)


def _train_row(setting: Setting, section: str, precision: str, loader: Any, folder: str) -> Row:
    from rich.console import Console

    from phaze_ee.config.options import Options
    from phaze_ee.results.training import TrainingHistory
    from phaze_ee.training.loaders import Loaders
    from phaze_ee.training.run import DataRecord, Outputs, train

    root, on_card = Path(folder), setting.device.type == "cuda"
    options = Options.model_validate(
        {
            "train_files": ["unused"], "val_files": ["unused"], "epochs": _EPOCHS, "zero_epochs": 0,
            "exit_stages": [0, 1, 2], "beta_max": [1.0] * 3, "optimizer": "adamw", "exit_loss_strategy": "target_flow",
            "use_amp": on_card, "amp_dtype": "bf16", "batch_size": setting.batch, "seed": 1, "tensorboard": False,
            "device": setting.device.type,
        }
    )  # fmt: skip
    outputs = Outputs(root / "models", root / "logs", root / "history.json", root / "resume.ckpt", "benchmark")
    for made in (outputs.models, outputs.logs):
        made.mkdir()
    few = _Few(loader)
    console = Console(file=io.StringIO())
    record = DataRecord({"inputs": "none"}, "none")
    train(_tagger(setting, loader), Loaders(loader, few), options, outputs, record, setting.device, console)
    history = TrainingHistory.read(outputs.history, "train")
    return Row(section, TRAIN, precision, setting.batch, history.epochs[-1].jets_per_second)
