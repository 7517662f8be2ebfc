"""What the cells share: the jets, the frozen network, and projects that the modes of the command line train."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.projects import made
from benchmarks.study.frozen import DATA_CONFIG, FrozenNetwork
from benchmarks.study.jets import StudyJets
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

    def trained(self, workspace: str, name: str, options: Mapping[str, Any]) -> Project:
        """Return a project of this study with these options, trained by mode train, or resumed, or as it is."""
        project = Project(workspace, name)
        if not project.root.exists():
            files = {f"{part}_files": list(map(str, self.jets.files[part])) for part in ("train", "val", "calibration")}
            shared = {"data_config": str(DATA_CONFIG), "device": "cpu", "tensorboard": False, "num_workers": 0}
            made(workspace, name, {**shared, **files, **options})
        chain.run(Session.open(Request("chain", workspace, name, operations="train")))
        return project

    def answers(self, project: Project, sample: str) -> Answers:
        """Return what the best model of a project answers for a sample."""
        checkpoint = load_checkpoint(project.best_model)
        schema = DataSchema.from_options(checkpoint.data_options)
        loader = evaluation_loader(schema, self.jets.files[sample], batch_size=_EVALUATION_BATCH)
        return predict(checkpoint.tagger, loader, schema.class_names)
