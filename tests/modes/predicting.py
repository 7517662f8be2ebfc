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


def every_exit(path: Path) -> torch.Tensor:
    trained = Session.open(request("predict")).model
    batches = list(evaluation_loader(trained.schema, [path], batch_size=JETS))
    with torch.no_grad():
        logits_ENK: torch.Tensor = trained.tagger.packed()(batches[0].inputs)
    return logits_ENK
