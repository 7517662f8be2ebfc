"""Inputs that are NaN or infinite with ``bad_values = "zero"``: what weaver makes of them, finite and counted."""

import copy
import time
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch
from weaver.utils.data.preprocess import AutoStandardizer

from phaze_ee.data.cache.build import Job, build_cache
from phaze_ee.data.cache.reader import find_cache
from phaze_ee.data.loaders import evaluation_loader, training_loader
from phaze_ee.data.rows import RowReader, SpanJets
from phaze_ee.data.schema import DataSchema
from phaze_ee.data.table import Span
from phaze_ee.errors import DataError
from tests.data.small import LENGTH, OPTIONS, jet_columns, options, schema, weaver_inputs
from tests.data.test_rows import write_hdf5
from tests.jetclass_files import write_root

JETS, PARTICLES = 30, LENGTH + 3
NAN, INFINITY = float("nan"), float("inf")
# without vectors, which would be infinite too, and are not clipped
INPUTS: dict[str, Any] = {name: group for name, group in OPTIONS["inputs"].items() if name != "pf_vectors"}
VARIABLES = {**OPTIONS["new_variables"], "part_mask": "ak.ones_like(part_charge)"}


def with_zero(**sections: Any) -> DataSchema:
    return DataSchema(
        options(**{"inputs": copy.deepcopy(INPUTS), "new_variables": VARIABLES, **sections}), bad_values="zero"
    )


def spoiled(*spoils: tuple[str, int, float]) -> dict[str, Any]:
    """Return columns of jets with some numbers replaced: column, position among all particles, and number."""
    columns = jet_columns(JETS, particles=np.full(JETS, PARTICLES))
    for name, place, value in spoils:
        flat = np.array(ak.flatten(columns[name]))
        flat[place] = value
        columns[name] = ak.unflatten(flat, ak.num(columns[name]))
    return columns


def write(folder: Path, columns: dict[str, Any], *, as_matrix: bool) -> Path:
    """Write the columns; a matrix is no list in memory, and weaver pads it variable by variable."""
    if not as_matrix:
        return write_root(folder / "jets.root", columns)
    matrices = {name: ak.to_numpy(ak.to_regular(c)) if isinstance(c, ak.Array) else c for name, c in columns.items()}
    return write_hdf5(folder / "jets.h5", matrices)


def read(path: Path, own: DataSchema) -> SpanJets:
    return RowReader(own, training=False).read(Span(path, 0, JETS))


@pytest.mark.parametrize("as_matrix", [False, True])
@pytest.mark.parametrize(
    ("name", "value", "counts"),
    [
        ("part_charge", NAN, {"NaN in part_charge": 2}),
        ("part_deta", NAN, {"NaN in part_deta": 2}),
        ("part_energy", NAN, {"NaN in part_e_log": 2}),
        ("part_energy", INFINITY, {"infinity in part_e_log": 2}),
        ("part_energy", 0.0, {"infinity in part_e_log": 2}),
    ],
)
def test_what_weaver_makes_of_them(
    tmp_path: Path, name: str, value: float, counts: dict[str, int], *, as_matrix: bool
) -> None:
    """One is among the first P particles of jet 0, one of jet 2, and one is beyond them and does not count."""
    columns = spoiled((name, 5, value), (name, 2 * PARTICLES, value), (name, PARTICLES - 1, value))
    path = write(tmp_path, columns, as_matrix=as_matrix)
    found = read(path, with_zero())
    assert found.bad == counts
    jets, expected = found.jets.batch().inputs.padded(), weaver_inputs(path, with_zero(), JETS)
    for kind in ("points", "features", "mask"):
        assert torch.equal(getattr(jets, kind), getattr(expected, kind)), kind
        assert getattr(jets, kind).isfinite().all()
    with pytest.raises(DataError, match=r"row 0: part_\w+ is (NaN|infinite)"):
        read(path, schema(inputs=INPUTS, new_variables=VARIABLES))


@pytest.mark.parametrize("as_matrix", [False, True])
@pytest.mark.parametrize("how", [[None], [1.0, 1, -INFINITY, INFINITY], [1.0, 0.0]])
def test_infinity_that_nothing_clips_is_zero(tmp_path: Path, how: list[Any], *, as_matrix: bool) -> None:
    inputs: dict[str, Any] = copy.deepcopy(INPUTS)
    inputs["pf_features"]["vars"][2] = ["part_charge", *how]
    path = write(tmp_path, spoiled(("part_charge", 5, INFINITY), ("part_charge", 8, -INFINITY)), as_matrix=as_matrix)
    found = read(path, with_zero(inputs=inputs))
    assert found.bad == {"infinity in part_charge": 2}
    features = found.jets.batch().inputs.padded().features
    assert features[0, 2, [5, 8]].tolist() == [0, 0]
    assert features.isfinite().all()


def test_good_jets_are_as_ever(tmp_path: Path) -> None:
    path = write(tmp_path, spoiled(), as_matrix=False)
    found, usual = read(path, with_zero()), read(path, schema(inputs=INPUTS))
    assert found.bad == {}
    assert torch.equal(found.jets.batch().inputs.padded().features, usual.jets.batch().inputs.padded().features)


def test_nan_counts_as_zero_in_the_standardisation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, spoiled(*(("part_charge", place, NAN) for place in range(0, 99, 2))), as_matrix=False)
    inputs: dict[str, Any] = copy.deepcopy(INPUTS)
    inputs["pf_features"]["vars"][2] = ["part_charge", "auto"]
    own = with_zero(inputs=inputs, preprocess={"method": "manual", "data_fraction": 1.0})
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # weaver waits, so that its warning is seen
    expected = AutoStandardizer([str(path)], own.weaver).produce().preprocess_params
    assert own.resolve([path]).weaver.preprocess_params == expected
    with pytest.raises(DataError, match="part_charge is NaN"):
        DataSchema(own.options).resolve([path])


@pytest.mark.parametrize("cached", [False, True])
def test_they_are_counted_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture, *, cached: bool) -> None:
    path, own = write(tmp_path, spoiled(("part_charge", 5, NAN), ("part_deta", 9, NAN)), as_matrix=False), with_zero()
    message = "bad_values is 'zero', and inputs were set to 0 or clipped: 1 × NaN in part_charge, 1 × NaN in part_deta"
    cache = None
    if cached:
        assert find_cache(tmp_path, own, [path], training=True) is None
        cache = build_cache(tmp_path, Job(own, own, [path], training=True))
        assert find_cache(tmp_path, own, [path], training=True) is not None
        assert find_cache(tmp_path, DataSchema(own.options), [path], training=True) is None
        assert cache.schema.bad_values == "zero"
    loader = training_loader(own, [path], batch_size=8, num_workers=0, seed=1, cache=cache)
    for _ in range(3):
        assert sum(map(len, loader)) == JETS
    assert [record.getMessage() for record in caplog.records if "bad_values" in record.getMessage()] == [message]
    assert len(list(evaluation_loader(own, [path], batch_size=8))) == 4


def test_observers_are_what_the_file_has(tmp_path: Path) -> None:
    columns = spoiled()
    columns["jet_pt"] = np.where(np.arange(JETS) == 3, INFINITY, 1 + np.arange(JETS)).astype(np.float32)
    groups = {**INPUTS, "jet_globals": {"length": None, "vars": [["jet_pt", None]]}}
    own = with_zero(inputs=groups, observers=["jet_pt"])
    jets = read(write(tmp_path, columns, as_matrix=False), own).jets
    np.testing.assert_array_equal(jets.observers["jet_pt"], columns["jet_pt"])
