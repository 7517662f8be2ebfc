"""Measures how well exits notice jets of a class that was left out of the training.

    python benchmarks/ood.py [--files FILE …] [--held-out label_Hbb …] [--epochs 12] [--seed 1] [--workspaces FOLDER]

For each class held out, a small ParticleNet with three exits learns the nine others, a policy is calibrated, and
``evaluate --ood`` compares jets of the held-out class with test jets of the nine. Without --files these are the bundled
sample jets. Each FILE holds one class and is named as in JetClass: 500 of its jets train, 200 validate, and the rest
test. The projects are kept in --workspaces if it is given. Three classes take about five minutes on one core.
"""

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.drift import unchanged, write_shifted
from phaze_ee.modes import chain
from phaze_ee.modes.new_project import create_project
from phaze_ee.modes.request import Request
from phaze_ee.modes.session import Session
from phaze_ee.results.ood import OODResults
from phaze_ee.tables.ood import auroc_table, leaving_table
from phaze_ee.workspace import Project

DATA_CONFIG = ROOT / "data_configs" / "JetClass_ParT_full.yaml"
SAMPLE_JETS = ROOT / "phaze_ee" / "sample_jets"
WORKSPACE = "leave_one_out"
FILES_OF_CLASS = {
    "label_QCD": "ZJetsToNuNu",
    "label_Hbb": "HToBB",
    "label_Hcc": "HToCC",
    "label_Hgg": "HToGG",
    "label_H4q": "HToWW4Q",
    "label_Hqql": "HToWW2Q1L",
    "label_Zqq": "ZToQQ",
    "label_Wqq": "WToQQ",
    "label_Tbqq": "TTBar",
    "label_Tbl": "TTBarLep",
}
PARTS = {"train": slice(0, 500), "val": slice(500, 700), "test": slice(700, None)}


def split(files: Sequence[Path], folder: Path) -> Path:
    """Divide the jets of each file among three files, in the folders ``train``, ``val`` and ``test``."""
    for part, rows in PARTS.items():
        (folder / part).mkdir(parents=True, exist_ok=True)
        for path in files:
            write_shifted(path, folder / part / path.name, "tree", unchanged, rows)
    return folder


def project_without(label: str, jets: Path, arguments: argparse.Namespace) -> Project:
    """Create a project whose data configuration and files lack a class."""
    project = create_project(Project(WORKSPACE, f"without_{label.removeprefix('label_')}_{arguments.seed}"))
    options = yaml.safe_load(DATA_CONFIG.read_text(encoding="utf-8"))
    options["labels"]["value"].remove(label)
    data_config = project.config.with_name("data.yaml")
    data_config.write_text(yaml.safe_dump(options, sort_keys=False), encoding="utf-8")
    known = [name for other, name in FILES_OF_CLASS.items() if other != label]
    values: dict[str, Any] = {
        "data_config": str(data_config.resolve()),
        **{f"{part}_files": [str(jets / part / f"{name}_*.root") for name in known] for part in PARTS},
        "epochs": arguments.epochs,
        "seed": arguments.seed,
        "tensorboard": False,
    }
    lines = "".join(f"    c.{name} = {value!r}\n" for name, value in values.items())
    with project.config.open("a", encoding="utf-8") as file:
        file.write(lines)
    return project


def judge(label: str, jets: Path, arguments: argparse.Namespace) -> OODResults:
    project = project_without(label, jets, arguments)
    held_out = str(jets / "test" / f"{FILES_OF_CLASS[label]}_*.root")
    operations = "train_calibrate_evaluate"
    chain.run(Session.open(Request("chain", project.workspace, project.name, operations=operations, ood=[held_out])))
    return OODResults.read(project.ood_results, made_by="evaluate")


def show(found: Mapping[str, OODResults]) -> None:
    console = Console(width=80)
    for label, results in found.items():
        console.rule(f"held out: {label}", align="left")
        console.print(auroc_table(results))
        if results.policy is not None:
            console.print(leaving_table(results.policy))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=Path, nargs="+")
    parser.add_argument(
        "--held-out", nargs="+", choices=FILES_OF_CLASS, default=["label_QCD", "label_Hbb", "label_Tbl"]
    )
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workspaces", type=Path, help="keep the projects here")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PHAZE_EE_WORKSPACES"] = str(arguments.workspaces or Path(folder) / "workspaces")
        jets = SAMPLE_JETS if arguments.files is None else split(arguments.files, Path(folder))
        show({label: judge(label, jets, arguments) for label in arguments.held_out})


if __name__ == "__main__":
    main()
