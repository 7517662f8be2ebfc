"""Batches hold bit for bit what weaver makes of the same rows, padded and without padding."""

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from phaze_ee.data.rows import RowReader, SpanJets
from phaze_ee.data.schema import DataSchema
from phaze_ee.data.table import Span
from phaze_ee.errors import DataError
from phaze_ee.types import JetBatch, JetInputs, Jets, LoadedJets
from phaze_ee.workspace import PACKAGE_ROOT
from tests.data.small import LENGTH, OPTIONS, jet_columns, schema, weaver_inputs
from tests.jetclass_files import jetclass_columns, random_jets, write_root
from tests.modes.two_class_project import DATA_CONFIG, write_jets

CONFIGS = sorted((Path(__file__).parents[2] / "data_configs").glob("*.yaml"))


def both(path: Path, own: DataSchema, stop: int = 20) -> tuple[JetInputs, JetBatch, SpanJets]:
    """What weaver makes of the first rows of a file, and what our reader does."""
    rows = RowReader(own, training=False).read(Span(path, 0, stop))
    return weaver_inputs(path, own, stop), rows.jets.batch(), rows


def assert_same(expected: JetInputs, batch: JetBatch, rows: SpanJets) -> None:
    """Compare all slots, padding included, and the real particles alone."""
    assert_same_inputs(expected, batch.inputs)
    assert len(rows) == len(batch) == len(batch.label_N)


def assert_same_inputs(expected: JetInputs, inputs: Jets) -> None:
    padded, ragged, particles = inputs.padded(), inputs.ragged(), expected.ragged()
    assert expected.more.keys() == padded.more.keys()
    for name, jets in inputs.more.items():
        assert_same_inputs(expected.more[name], jets)
    for name in ("points", "features", "vectors", "mask"):
        ours, theirs = getattr(padded, name), getattr(expected, name)
        assert (ours is None and theirs is None) or torch.equal(ours, theirs), name
        if isinstance(inputs, LoadedJets) and ours is not None:
            assert torch.equal(getattr(inputs, name), theirs), name
    for name in ("points_V2", "features_VC", "vectors_V4", "particle_count_N"):
        ours, theirs = getattr(ragged, name), getattr(particles, name)
        assert (ours is None and theirs is None) or torch.equal(ours, theirs), name


def awkward_columns(seed: int, slots: int = 150) -> dict[str, Any]:
    """Columns of 20 jets, some longer than any P, with values far outside the clipping limits."""
    vectors, points, label = random_jets(20, seed=seed, slots=slots)
    columns = jetclass_columns(vectors * np.float32(50), points * np.float32(9), label)
    columns |= vertex_columns(np.arange(20) % 14)
    return {**columns, "label": np.arange(20) % 2, "part_d0err": 3 * columns["part_px"]}


def vertex_columns(counts: npt.NDArray[np.int64], seed: int = 0) -> dict[str, Any]:
    """Return columns sv_* of secondary vertices without physics, as many in each jet as ``counts`` says."""
    rng = np.random.default_rng(seed)
    names = ("px", "py", "pz", "energy", "mass", "deta", "dphi", "dxy", "dxyerr", "d3d", "d3derr", "costheta")
    values = {name: rng.uniform(0.01, 0.99, counts.sum()).astype(np.float32) for name in names}
    values["ntracks"] = rng.integers(2, 9, counts.sum()).astype(np.int32)
    return {f"sv_{name}": ak.unflatten(own, counts) for name, own in values.items()}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_bundled_configurations(config: Path, tmp_path: Path) -> None:
    if config.stem == "SampleJets_Hbb":  # which reads integers
        path = PACKAGE_ROOT / "sample_jets" / "hbb" / "test" / "HToBB_000.root"
    else:
        path = write_root(tmp_path / "jets.root", awkward_columns(1))
    expected, batch, rows = both(path, DataSchema.load(config))
    assert isinstance(batch.inputs, LoadedJets)
    assert_same(expected, batch, rows)


@pytest.mark.parametrize("config", [path for path in CONFIGS if "_sv" not in path.stem][:2], ids=lambda path: path.stem)
def test_generated_jets(config: Path, shared_dir: Path) -> None:
    files = sorted((shared_dir / "data" / "generated").glob("*.root"))
    assert_same(*both(files[0], DataSchema.load(config), 300))


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(counts=st.lists(st.integers(0, LENGTH + 3), min_size=20, max_size=20), cut=st.integers(0, 20))
def test_any_multiplicities_and_selections(counts: list[int], cut: int, tmp_path: Path) -> None:
    columns = jet_columns(20, particles=np.array(counts))
    own = schema(test_time_selection=f"jet_index % 7 != 3 & (jet_index < {cut})")
    expected, batch, rows = both(write_root(tmp_path / "jets.root", columns), own)
    assert isinstance(batch.inputs, LoadedJets)
    assert_same(expected, batch, rows)
    assert rows.row_N.tolist() == batch.observers["jet_index"].tolist()


def test_rows_count_from_the_start_of_the_file(tmp_path: Path) -> None:
    path = write_root(tmp_path / "jets.root", jet_columns(20))
    reader = RowReader(schema(test_time_selection="jet_index % 2 == 1"), training=False)
    assert reader.read(Span(path, 10, 16)).row_N.tolist() == [11, 13, 15]
    assert len(reader.read(Span(path, 0, 0))) == 0


def test_a_mask_leaves_particles_out(tmp_path: Path) -> None:
    variables = {**OPTIONS["new_variables"], "part_mask": "part_px > 0"}
    expected, batch, rows = both(
        write_root(tmp_path / "jets.root", awkward_columns(2)), schema(new_variables=variables, observers=None)
    )
    assert isinstance(batch.inputs, JetInputs)
    assert_same(expected, batch, rows)
    assert batch.inputs.particle_count_N.sum() < min(LENGTH, 150) * 20


def test_a_mask_that_counts_padding_as_real(tmp_path: Path) -> None:
    mask = {"length": LENGTH, "vars": [["part_mask", None, 1, -5, 5, 1]]}
    inputs = {**OPTIONS["inputs"], "pf_mask": mask}
    path = write_root(tmp_path / "jets.root", jet_columns(20, particles=np.arange(20) % 5))
    expected, batch, rows = both(path, schema(inputs=inputs))
    assert_same(expected, batch, rows)
    assert batch.inputs.particle_count_N.max() == LENGTH


def without(kind: str) -> dict[str, Any]:
    return {name: group for name, group in OPTIONS["inputs"].items() if name != f"pf_{kind}"}


def test_without_a_mask_all_slots_count(tmp_path: Path) -> None:
    path = write_columns(tmp_path / "jets.parquet", jet_columns(20, particles=np.full(20, 9)))
    expected, batch, rows = both(path, schema(inputs=without("mask")))
    assert isinstance(batch.inputs, JetInputs)
    assert_same(expected, batch, rows)


def test_columns_of_fixed_length_are_padded(tmp_path: Path) -> None:
    write_jets(tmp_path / "jets.root", np.zeros(20))
    expected, batch, rows = both(tmp_path / "jets.root", DataSchema.from_options(yaml.safe_load(DATA_CONFIG)))
    assert_same(expected, batch, rows)


def test_a_selection_of_jets_keeps_the_padding(tmp_path: Path) -> None:
    expected, batch, _ = both(write_root(tmp_path / "jets.root", jet_columns(20)), schema())
    keep = torch.tensor([7, 2, 2, 19])
    found = batch.inputs.select(keep).padded()
    for name in ("points", "features", "vectors", "mask"):
        assert torch.equal(getattr(found, name), getattr(expected, name)[keep]), name
    cut = batch.inputs.padded(5)
    assert torch.equal(cut.features, expected.features[..., :5] * expected.mask[..., :5])


def write_columns(path: Path, columns: dict[str, Any]) -> Path:
    ak.to_parquet(ak.Array(columns), str(path))
    return path


def test_vectors_are_optional(tmp_path: Path) -> None:
    expected, batch, rows = both(write_root(tmp_path / "jets.root", jet_columns(20)), schema(inputs=without("vectors")))
    assert isinstance(batch.inputs, LoadedJets)
    assert batch.inputs.vectors_V4 is None
    assert_same(expected, batch, rows)


def spoiled(column: ak.Array, jet: int, value: float) -> ak.Array:
    flat, count = np.array(ak.flatten(column)), ak.num(column)
    flat[int(np.sum(count[:jet]))] = value
    return ak.unflatten(flat, count)


def test_nan_is_refused(tmp_path: Path) -> None:
    columns = jet_columns(20)
    columns["part_charge"] = spoiled(columns["part_charge"], 13, np.nan)
    path = write_root(tmp_path / "bad.root", columns)
    with pytest.raises(DataError, match=r"bad\.root row 13: part_charge is NaN"):
        RowReader(schema(), training=False).read(Span(path, 5, 20))
