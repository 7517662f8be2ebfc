"""The collection of data YAMLs, against weaver: the same configuration, and the same inputs bit for bit."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from weaver.utils.data.config import DataConfig
from weaver.utils.data.fileio import _read_files
from weaver.utils.data.preprocess import AutoStandardizer
from weaver.utils.dataset import _preprocess

from phaze_ee.data.rows import RowReader
from phaze_ee.data.schema import DataSchema
from phaze_ee.data.table import Span
from phaze_ee.types import globals_of
from tests.data.yaml_collection import COLLECTION

JETS = 24
SAME = (
    *("treename", "selection", "test_time_selection", "input_names", "input_dicts", "input_shapes", "observer_names"),
    *("monitor_variables", "preprocess_params", "weight_name", "branch_magic", "file_magic", "bucketing"),
)
LISTS = ("pf", "sv", "lt", "part", "cpf", "npf", "jets")
CLASSES = 4
_ONE_HOT = re.compile(r"label_|is_|recojet_is|lep_is")


def yaml_and_file(folder: Path, name: str) -> tuple[Path, Path]:
    """Write a YAML of the collection, and random jets that it can read."""
    path = folder / "data.yaml"
    path.write_bytes(COLLECTION[name].encode())
    config = DataConfig.load(str(path))
    names = (config.train_load_branches | config.test_load_branches) - {"aux_training_", *(config.file_magic or {})}
    for old, new in (config.branch_magic or {}).items():
        names = {branch.replace(old, new) for branch in names}
    made, file = columns(names), folder / "jets.root"
    types = {name: getattr(column, "dtype", None) or str(column.type.content) for name, column in made.items()}
    with uproot.recreate(file) as root:
        tree = config.treename or "tree"
        root.mktree(tree, types, counter_name=lambda branch: f"n_{branch}")  # collections have their own lengths
        root[tree].extend(made)
    return path, file


def of_weaver(path: Path, file: Path, *, training: bool) -> dict[str, Any]:
    """Return the inputs, labels and observers that weaver makes, with its own functions alone."""
    config = DataConfig.load(str(path), load_observers=not training, load_reweight_info=training)
    table = _read_files(
        [str(file)],
        config.train_load_branches if training else config.test_load_branches,
        treename=config.treename,
        branch_magic=config.branch_magic,
        file_magic=config.file_magic,
    )
    mode = {"mode": "train" if training else "test", "training": training, "reweight": False, "shuffle": False}
    made: dict[str, Any] = _preprocess(table, config, mode)[0]
    return made


@pytest.mark.parametrize("name", COLLECTION)
def test_weaver_reads_the_same(name: str, tmp_path: Path) -> None:
    path, file = yaml_and_file(tmp_path, name)
    schema = DataSchema.load(path)
    assert_same_configuration(schema.weaver, DataConfig.load(str(path)))
    if schema.needs_standardisation:
        schema, made = schema.resolve([file]), tmp_path / "data.auto.yaml"
        AutoStandardizer([str(file)], DataConfig.load(str(path))).produce(str(made))
        path = made
        assert DataSchema.load(made).weaver.preprocess_params == schema.weaver.preprocess_params
    own = DataSchema({**DataSchema.load(path).options, "weights": None})
    for training in (True, False):
        found = RowReader(own, training=training).read(Span(file, 0, JETS)).jets.batch()
        inputs, expected = found.inputs.padded(), of_weaver(path, file, training=training)
        assert 0 < len(found) <= JETS
        for number, collection in enumerate(schema.collections):
            jets = inputs.more[collection.name] if number else inputs
            for kind, group in collection.groups.items():
                assert np.array_equal(getattr(jets, kind).numpy(), expected[f"_{group}"]), (group, training)
        if schema.globals is not None:
            globals_NG = globals_of(inputs)
            assert globals_NG is not None
            numbers = expected[f"_{schema.globals.groups['features']}"].reshape(len(found), -1)  # (N,) if it is one
            assert np.array_equal(globals_NG.numpy(), numbers)
            assert inputs.counts_NG.shape[1] == len(schema.collections)
        label = next(key for key in ("_label_", "class_", "is_signal") if key in expected)
        assert found.label_N.tolist() == np.asarray(expected[label]).tolist()
        for observer, column in found.observers.items():
            np.testing.assert_array_equal(column, expected[observer])


def assert_same_configuration(ours: DataConfig, theirs: DataConfig) -> None:
    for own in theirs.preprocess_params.values():
        own.update({key: number(value) for key, value in own.items()})
    for attribute in SAME:
        assert getattr(ours, attribute) == getattr(theirs, attribute), attribute
    if theirs.label_type == "simple":
        assert (ours.label_value, ours.var_funcs) == (theirs.label_value, theirs.var_funcs)
        assert ours.train_load_branches == theirs.train_load_branches
        assert ours.test_load_branches == theirs.test_load_branches
    for attribute in ("reweight_method", "reweight_branches", "reweight_bins", "reweight_classes", "reweight_basewgt"):
        if theirs.weight_name and not theirs.use_precomputed_weights:
            assert getattr(ours, attribute, None) == getattr(theirs, attribute), attribute


def number(value: Any) -> Any:
    """Return the number of a text as ``1e-3``, which weaver keeps as text."""
    return float(value) if isinstance(value, str) and re.fullmatch(r"[-+\de]+", value) else value


def test_the_collection_has_all_keys_of_weaver() -> None:
    everything = "".join(COLLECTION.values())
    assert len(COLLECTION) >= 60
    assert all(
        f"{key}:" in everything for key in DataConfig(labels={"type": "simple", "value": []}, print_info=False).options
    )
    assert len(set(COLLECTION.values())) == len(COLLECTION)


def columns(names: Iterable[str]) -> dict[str, Any]:
    """Return random columns: lists of particles by the prefix of their names, one-hot labels, numbers of jets."""
    rng = np.random.default_rng(7)
    count_of = {prefix: rng.integers(0 if prefix == "sv" else 1, 30, JETS) for prefix in LISTS}
    truth, made = np.arange(JETS) % CLASSES, {}
    flags = sorted(name for name in names if _ONE_HOT.match(name))
    for name in sorted(names):
        prefix, _, rest = name.partition("_")
        if name in flags:
            made[name] = (truth % max(2, len(flags)) == flags.index(name)).astype(np.int32)
        elif prefix in LISTS:
            made[name] = _particles(rest, count_of[prefix], rng)
        else:
            made[name] = _numbers(name, truth, rng)
    return made


def _particles(what: str, count: Any, rng: np.random.Generator) -> ak.Array:
    total = int(count.sum())
    if what in ("charge", "pid", "quality"):
        values: Any = rng.choice({"charge": [-1, 0, 1], "pid": [11, 13, 22, 211], "quality": [0, 1, 2]}[what], total)
    elif what in ("eta", "phi", "px", "py", "pz", "d0", "d0val", "btag"):
        values = rng.normal(size=total).astype(np.float32)
    else:
        values = rng.lognormal(sigma=1.5, size=total).astype(np.float32)
    return ak.unflatten(values, count)


def _numbers(name: str, truth: Any, rng: np.random.Generator) -> Any:
    if name in ("truth", "process"):
        return truth.astype(np.int32)
    if name == "flavour":
        return np.array([5, -4, 21, 1])[truth]
    if name in ("event_no", "fj_no"):
        return np.arange(JETS) % (100 if name == "event_no" else 2)
    if name.endswith(("eta", "phi")):
        return rng.normal(size=JETS).astype(np.float32) / 2
    return rng.uniform(30, 290, JETS).astype(np.float32) + 170 * name.endswith("pt")
