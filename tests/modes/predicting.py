"""Running mode predict on a project, and reading what it wrote."""

from pathlib import Path
from typing import Any

import numpy.typing as npt
import pyarrow.parquet
import torch
import uproot

from phaze_ee.cli import main
from phaze_ee.data.loaders import evaluation_loader
from phaze_ee.modes.session import Session
from tests.modes.two_class_project import JETS, request

Columns = dict[str, npt.NDArray[Any]]


def predict(*flags: str | Path) -> int:
    return main(["-m", "predict", "-p", "Tops", "small", *map(str, flags)])


def columns_of(path: Path) -> Columns:
    if path.suffix == ".parquet":
        table = pyarrow.parquet.read_table(path)
        return {name: table[name].to_numpy() for name in table.column_names}
    with uproot.open(path) as file:
        arrays: Columns = file["Events"].arrays(library="np")
        return arrays


def every_exit(path: Path, jets: int = JETS) -> torch.Tensor:
    trained = Session.open(request("predict")).model
    batches = list(evaluation_loader(trained.schema, [path], batch_size=jets))
    with torch.no_grad():
        logits_ENK: torch.Tensor = trained.tagger.packed()(batches[0].inputs)
    return logits_ENK


def rewrite(source: Path, target: Path, **changes: Any) -> None:
    """Write a copy of a file of jets with other columns; None removes one."""
    with uproot.open(source) as file:
        jets = {**file["Events"].arrays(library="np"), **changes}
    jets = {name: column for name, column in jets.items() if column is not None}
    with uproot.recreate(target) as file:
        file.mktree("Events", {name: (column.dtype, column.shape[1:]) for name, column in jets.items()})
        file["Events"].extend(jets)


def notes(printed: str) -> str:
    return " ".join(printed.split())


def change_yaml(tmp_path: Path, before: str, after: str) -> None:
    path = tmp_path / "two_classes.yaml"
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")
