"""Reads what a command wrote, in a form that can be compared."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import torch
import uproot

Answers = Mapping[str, Any]

# What depends on the names and hashes of files, or on the time that something took.
_VOLATILE = frozenset(("data_hash", "model", "model_hash", "files", "path", "notes", "jets_per_second", "seconds"))


def answers(scene: Path, results: Sequence[str]) -> Answers:
    """Return the contents of results files, without what depends on names and times; None for a missing one."""
    return {name: _content(scene / name) if (scene / name).exists() else None for name in results}


def _content(path: Path) -> Any:
    if path.suffix == ".json":
        return _steady(json.loads(path.read_text(encoding="utf-8")))
    if path.suffix == ".pt":
        state = torch.load(path, weights_only=True)["state_dict"]
        return {name: value.tolist() for name, value in state.items()}
    if path.suffix == ".onnx":
        return sha256(path)
    return {name: values.tolist() for name, values in columns(path).items()}


def sha256(path: Path) -> str:
    """Return the hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def columns(path: Path) -> dict[str, Any]:
    """Return the columns of a file of predictions."""
    if path.suffix == ".parquet":
        table = pyarrow.parquet.read_table(path)
        return {name: table[name].to_numpy() for name in table.column_names}
    with uproot.open(path) as file:
        found: dict[str, Any] = file["Events"].arrays(library="np")
    return found


def _steady(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _steady(inner) for key, inner in value.items() if key not in _VOLATILE}
    return [_steady(inner) for inner in value] if isinstance(value, list) else value


def agree(found: Any, wanted: Any, tolerance: float = 0.0) -> bool:
    """Return whether answers hold all that is wanted; NaN equals NaN.

    Args:
        found: the answers.
        wanted: may have fewer keys.
        tolerance: of numbers, relative.
    """
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(
            key in found and agree(found[key], value, tolerance) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(found, list)
            and len(found) == len(wanted)
            and all(agree(one, other, tolerance) for one, other in zip(found, wanted, strict=True))
        )
    if isinstance(wanted, float) and isinstance(found, float):
        both_nan = math.isnan(wanted) and math.isnan(found)
        return both_nan or math.isclose(found, wanted, rel_tol=tolerance)
    return bool(found == wanted)


def not_finite(found: Answers) -> list[str]:
    """Return the columns of predicted scores that are not finite."""
    tables = [content for name, content in found.items() if name.startswith("out/") and content is not None]
    return [
        name
        for table in tables
        for name, values in table.items()
        if name.startswith(("score_", "exit_", "macs")) and not np.isfinite(np.asarray(values, dtype=np.float64)).all()
    ]
