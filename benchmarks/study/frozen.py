"""A published network that stays as it is: its features, kept in files, and exits that are trained on them."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from torch import Tensor

from benchmarks.frozen_options import options_on_features
from benchmarks.study.cells import ROOT
from benchmarks.study.jets import StudyJets
from phaze_ee.atomic import replacing_folder
from phaze_ee.config.options import Options
from phaze_ee.data.loaders import evaluation_loader
from phaze_ee.data.row_spans import ahead
from phaze_ee.data.schema import DataSchema
from phaze_ee.exits.answers import Answers
from phaze_ee.exits.costs import ExitCosts
from phaze_ee.models.build import build_tagger
from phaze_ee.models.checkpoint import load_weights
from phaze_ee.models.frozen import FrozenBackbone
from phaze_ee.models.tagger import Tagger
from phaze_ee.names import ExitStage
from phaze_ee.training.frozen import FeatureBatch, FeatureFiles, Features
from phaze_ee.training.loaders import Feed, Loaders
from phaze_ee.training.run import DataRecord, Outputs, train

DATA_CONFIG = ROOT / "data_configs" / "JetClass_ParT_full.yaml"
STAGES: tuple[ExitStage, ...] = ("input", 0, 1, 2)
BATCH = 256
_EVALUATION_BATCH = 1000
_ROWS = ("first_N", "count_N", "logits_NK", "label_N")


@dataclass(frozen=True)
class StoredJets:
    """The features of a sample, and the other columns of its files."""

    features: Features
    observers: Mapping[str, npt.NDArray[Any]]


class FrozenNetwork:
    """The published ParticleNet with its features for the jets of the study.

    Args:
        weights: the checkpoint of weaver.
        jets: the samples.
        folder: where the features are kept.
    """

    def __init__(self, weights: Path, jets: StudyJets, folder: Path) -> None:
        self.weights, self.jets, self.folder = weights, jets, folder
        self.schema = DataSchema.load(DATA_CONFIG)
        self.stored = cache(self._stored)

    @cached_property
    def tagger(self) -> Tagger:
        """The network, with an exit after each stage that is only a place."""
        options = frozen_options(STAGES, {}, 0)
        tagger = build_tagger(options, ROOT / options.network_file, self.schema.weaver)
        plain = options.model_copy(update={"exit_stages": []})
        full = build_tagger(plain, ROOT / options.network_file, self.schema.weaver)
        load_weights(full, self.weights)
        tagger.backbone.load_state_dict(full.backbone.state_dict())
        return tagger.fastest_form().eval()

    def trained(self, stages: Sequence[ExitStage], recipe: Mapping[str, Any], seed: int) -> Tagger:
        """Return exits after these stages, trained on the stored features of the training jets.

        Args:
            stages: where the exits sit, in order.
            recipe: options of the configuration.
            seed: of the first weights and of the order of the jets.
        """
        options = frozen_options(stages, recipe, seed)
        feed = Feed(
            ShuffledFeatures(self._at(stages, "train"), seed), _InOrder(self._at(stages, "val"), _EVALUATION_BATCH)
        )
        torch.manual_seed(seed)
        tagger = Tagger(self.tagger.backbone, stages, options.exit_head, link=options.exit_link)
        walked = tagger.with_backbone(FrozenBackbone(tagger.backbone, stages))
        with TemporaryDirectory() as name:
            folder = Path(name)
            outputs = Outputs(folder / "models", folder / "logs", folder / "history.json", folder / "resume", "study")
            quiet = Console(file=io.StringIO())
            loaders, device = cast(Loaders, feed), torch.device("cpu")  # only their length is used
            train(tagger, loaders, options, outputs, DataRecord({}, ""), device, quiet, stored=(walked, feed))
        return tagger.eval()

    def answers(self, tagger: Tagger, sample: str) -> Answers:
        """Return what exits of :meth:`trained` answer for a sample."""
        stored, features = self.stored(sample), self._at(tagger.exit_stages, sample)
        walked = tagger.with_backbone(FrozenBackbone(tagger.backbone, tagger.exit_stages))
        with torch.inference_mode():
            parts = [walked.every_answer(cast(Any, batch.inputs))[0] for batch in _InOrder(features, _EVALUATION_BATCH)]
        count_N = features.count_N.numpy()
        return Answers(
            logits_ENK=torch.cat(parts, dim=1).numpy(),
            label_N=features.label_N.numpy(),
            particle_count_N=count_N,
            class_names=tuple(self.schema.class_names),
            costs=ExitCosts.of(tagger, count_N),
            observers=stored.observers,
        )

    def _at(self, stages: Sequence[ExitStage], sample: str) -> Features:
        """Return the features of a sample after some stages alone."""
        features = self.stored(sample).features
        columns = tuple(features.columns[STAGES.index(stage)] for stage in stages)
        return replace(features, columns=columns)

    def _stored(self, sample: str) -> StoredJets:
        folder = self.folder / sample
        record = {"weights": self.weights.name, "jets": self.jets.hashes[sample]}
        if not (folder / "record.json").is_file() or json.loads((folder / "record.json").read_text()) != record:
            self._compute(sample, folder, record)
        with np.load(folder / "rows.npz") as rows:
            columns = {name: torch.from_numpy(rows[name]) for name in _ROWS}
            observers = {name: rows[name] for name in rows.files if name not in _ROWS}
        # Copied on write: torch knows no read-only memory.
        particles = tuple(
            torch.from_numpy(np.load(folder / f"stage_{index}.npy", mmap_mode="c")) for index in range(len(STAGES))
        )
        return StoredJets(Features(self.tagger, particles, **columns, target_NR=None), observers)

    def _compute(self, sample: str, folder: Path, record: Mapping[str, str]) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        observers: list[Mapping[str, npt.NDArray[Any]]] = []
        with FeatureFiles(self.tagger, folder.parent) as files, replacing_folder(folder) as temporary:
            loader = evaluation_loader(self.schema, self.jets.files[sample], batch_size=_EVALUATION_BATCH)
            for batch in loader:
                files.add(batch)
                observers.append(batch.observers)
            features = files.finish()
            for index, column in enumerate(features.columns):
                np.save(temporary / f"stage_{index}.npy", column.numpy())
            rows: dict[str, Any] = {name: getattr(features, name).numpy() for name in _ROWS}
            rows |= {name: np.concatenate([part[name] for part in observers]) for name in observers[0]}
            np.savez(temporary / "rows.npz", **rows)
            (temporary / "record.json").write_text(json.dumps(record), encoding="utf-8")


class ShuffledFeatures:
    """Batches of stored features in an order that depends on seed and epoch: the training batches of exits."""

    def __init__(self, features: Features, seed: int) -> None:
        self._features, self._seed = features, seed
        self._epoch, self._first = 0, 0
        self.jet_count = len(features.label_N)

    def __len__(self) -> int:
        return -(-self.jet_count // BATCH)

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        self._epoch, self._first = epoch, first_batch

    def __iter__(self) -> Iterator[FeatureBatch]:
        order_N = torch.from_numpy(np.random.default_rng([self._seed, self._epoch]).permutation(self.jet_count))
        return ahead(map(self._batch, torch.split(order_N, BATCH)[self._first :]))

    def _batch(self, index_N: Tensor) -> FeatureBatch:
        return self._features.batch(index_N.sort().values)  # neighbours in the file are read together


@dataclass(frozen=True)
class _InOrder:
    features: Features
    size: int

    def __iter__(self) -> Iterator[FeatureBatch]:
        index_N = torch.arange(len(self.features.label_N))
        return ahead(map(self.features.batch, torch.split(index_N, self.size)))


def frozen_options(stages: Sequence[ExitStage], recipe: Mapping[str, Any], seed: int) -> Options:
    """Return the options that train exits on stored features."""
    others = {"epochs": 8, "use_packed": False, **recipe}  # the features are packed already
    return options_on_features(stages, seed=seed, batch_size=BATCH, **others)
