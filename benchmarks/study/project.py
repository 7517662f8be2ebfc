"""What the cells share: the jets, the frozen network, and projects that the modes of the command line train."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.projects import made
from benchmarks.study.cells import ROOT, plain
from benchmarks.study.frozen import DATA_CONFIG, FrozenNetwork
from benchmarks.study.jets import StudyJets, of_class
from phaze_ee.atomic import replacing
from phaze_ee.data.cache.build import Job, build_cache
from phaze_ee.data.loaders import evaluation_loader
from phaze_ee.data.schema import DataSchema
from phaze_ee.evaluation.answers import predict
from phaze_ee.exits.answers import Answers
from phaze_ee.models.checkpoint import load_checkpoint
from phaze_ee.modes import chain
from phaze_ee.modes.request import Request
from phaze_ee.modes.session import Session
from phaze_ee.workspace import Project

_EVALUATION_BATCH = 1000
_RECORD = "study.json"


@dataclass(frozen=True)
class Study:
    """A study of one size.

    Attributes:
        folder: features and projects lie here.
        size: small or full.
        jets: the samples.
        weights: the published network; None: cells with a frozen network are left out.
    """

    folder: Path
    size: str
    jets: StudyJets
    weights: Path | None

    @cached_property
    def frozen(self) -> FrozenNetwork | None:
        return None if self.weights is None else FrozenNetwork(self.weights, self.jets, self.folder / "features")

    @property
    def caches(self) -> Path:
        """Where converted jets lie, for all projects together."""
        return self.folder / "caches"

    def trained(self, workspace: str, name: str, options: Mapping[str, Any]) -> Project:
        """Return a project of this study with these options: trained by mode train, resumed, or as it is if finished.

        A project of the same name with other options is removed first; so is an unfinished one of another checkout.
        """
        project = Project(workspace, name)
        record = project.root / _RECORD
        wanted = {"options": plain(options), "jets": self.jets.hash}
        if project.root.exists() and not can_go_on(_kept(record), wanted):
            shutil.rmtree(project.root)
        if not project.root.exists():
            files = {f"{part}_files": list(map(str, self.jets.files[part])) for part in ("train", "val", "calibration")}
            shared = {"data_config": str(DATA_CONFIG), "device": "cpu", "tensorboard": False, "num_workers": 0}
            shared |= {"test_files": []}  # samples are judged one by one
            made(workspace, name, {**shared, **files, "cache_folder": str(self.caches), **options})
            _keep(record, wanted, finished=False)
        if not _kept(record)["finished"]:
            chain.run(Session.open(Request("chain", workspace, name, operations="convert_train")))
            _keep(record, wanted, finished=True)
        return project

    def answers(self, project: Project, sample: str, *, only: str = "", without: str = "") -> Answers:
        """Return what the best model of a project answers for a sample, or for some of its files.

        Args:
            project: a trained one.
            sample: the sample.
            only: the class of the files, as JetClass names them; empty: all. Its jets need no label.
            without: a class whose files are left out.
        """
        files = self.jets.files[sample]
        left_out = of_class(files, without) if without else []
        chosen = of_class(files, only) if only else [path for path in files if path not in left_out]
        checkpoint = load_checkpoint(project.best_model)
        schema = DataSchema.from_options(checkpoint.data_options)
        job = Job(schema, schema, chosen, training=False, labelled=not only)
        cache = build_cache(self.caches, job, workers=1)
        loader = evaluation_loader(schema, chosen, batch_size=_EVALUATION_BATCH, labelled=not only, cache=cache)
        return predict(checkpoint.tagger, loader, schema.class_names)


def can_go_on(record: Mapping[str, Any], made_of: Mapping[str, Any]) -> bool:
    """Return whether a project with this record is what is wanted, or can become it.

    The configuration of an unfinished one names files of the checkout that began it, which may be gone by now.
    """
    return record.get("made_of") == made_of and (record["finished"] or record.get("checkout") == str(ROOT))


def _keep(record: Path, made_of: Mapping[str, Any], *, finished: bool) -> None:
    content = {"made_of": made_of, "finished": finished, "checkout": str(ROOT)}
    with replacing(record) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")


def _kept(record: Path) -> Mapping[str, Any]:
    """Return the record of a project; empty if it was killed before there was one."""
    return dict(json.loads(record.read_text(encoding="utf-8"))) if record.is_file() else {}
