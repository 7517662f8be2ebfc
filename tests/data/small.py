"""A small data configuration on the JetClass schema, and files for it."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from weaver.utils.dataset import _finalize_inputs

from phaze_ee.data.schema import DataSchema
from phaze_ee.data.table import Span, selected_table
from phaze_ee.input_groups import InputCollection
from phaze_ee.types import JetInputs
from tests.jetclass_files import LABELS, jetclass_columns, random_jets, write_root

LENGTH = 12
PARTICLE_COLUMNS = ("px", "py", "pz", "energy", "deta", "dphi", "charge")
USED_COLUMNS = {*(f"part_{name}" for name in PARTICLE_COLUMNS), *LABELS}

OPTIONS: dict[str, Any] = {
    "treename": "tree",
    "new_variables": {
        "part_pt": "np.hypot(part_px, part_py)",
        "part_pt_log": "np.log(part_pt)",
        "part_e_log": "np.log(part_energy)",
        "part_mask": "ak.ones_like(part_energy)",
    },
    "inputs": {
        "pf_points": {"length": LENGTH, "pad_mode": "wrap", "vars": [["part_deta", None], ["part_dphi", None]]},
        "pf_features": {
            "length": LENGTH,
            "pad_mode": "wrap",
            "vars": [["part_pt_log", 1.7, 0.7], ["part_e_log", 2, 0.7, -1, 1], ["part_charge", None]],
        },
        "pf_vectors": {"length": LENGTH, "vars": ["part_px", "part_py", "part_pz", "part_energy"]},
        "pf_mask": {"length": LENGTH, "vars": [["part_mask", None]]},
    },
    "labels": {"type": "simple", "value": list(LABELS)},
    "observers": ["jet_index"],
}


def options(**sections: Any) -> dict[str, Any]:
    """Return the small configuration with some sections replaced; None removes one."""
    merged = {**copy.deepcopy(OPTIONS), **sections}
    return {name: section for name, section in merged.items() if section is not None}


def schema(**sections: Any) -> DataSchema:
    return DataSchema.from_options(options(**sections))


def weaver_inputs(path: Path, own: DataSchema, stop: int) -> JetInputs:
    """Return what weaver makes of the first rows of a file."""
    config = own.with_observers([]).config_for(training=False, labelled=False)
    table = selected_table(
        config, Span(path, 0, stop), config.preprocess_params, config.test_time_selection, training=False
    )
    table["_label_"] = np.zeros(len(table))
    output = _finalize_inputs(table, config)
    first, *others = [_collection(output, collection, len(table)) for collection in own.collections]
    names = [collection.name for collection in own.collections[1:]]
    return replace(first, more=dict(zip(names, others, strict=True)))


def _collection(output: dict[str, Any], own: InputCollection, count: int) -> JetInputs:
    tensors = {kind: torch.from_numpy(output[f"_{group}"]) for kind, group in own.groups.items()}
    mask = tensors.get("mask", torch.ones(count, 1, own.length))
    return JetInputs(tensors["points"], tensors["features"], tensors.get("vectors"), mask)


def write_yaml(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def jet_columns(count: int, first: int = 0, **arrays: Any) -> dict[str, Any]:
    """Return columns of random jets, numbered from ``first`` in ``jet_index``."""
    columns = jetclass_columns(*random_jets(count, seed=first, **arrays))
    used = {name: column for name, column in columns.items() if name in USED_COLUMNS}
    return {**used, "jet_index": np.arange(first, first + count)}


def jet_files(folder: Path, counts: list[int]) -> list[Path]:
    """Write one ROOT file per count; ``jet_index`` runs through all of them."""
    firsts = np.cumsum([0, *counts[:-1]]).tolist()
    return [
        write_root(folder / f"jets_{number}.root", jet_columns(count, first))
        for number, (count, first) in enumerate(zip(counts, firsts, strict=True))
    ]
