"""Jets with several collections: from the data configuration through readers, caches and loaders to batches."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch
import yaml

from phaze_ee.data.cache.build import Job, build_cache
from phaze_ee.data.cache.reader import find_cache
from phaze_ee.data.jet_columns import JetColumns
from phaze_ee.data.loaders import evaluation_loader, training_loader
from phaze_ee.data.rows import RowReader
from phaze_ee.data.schema import DataSchema
from phaze_ee.data.table import Span
from phaze_ee.errors import DataError
from phaze_ee.types import JetInputs, LoadedJets, globals_of
from tests.data.small import jet_columns
from tests.data.test_ragged import assert_same_inputs, both, vertex_columns
from tests.jetclass_files import write_root

OPTIONS: dict[str, Any] = {
    "treename": "tree",
    "new_variables": {"pf_mask": "ak.ones_like(part_energy)", "sv_mask": "ak.ones_like(sv_energy)"},
    "inputs": {
        "pf_points": {"length": 12, "pad_mode": "wrap", "vars": [["part_deta", None], ["part_dphi", None]]},
        "pf_features": {"length": 12, "pad_mode": "wrap", "vars": [["part_px", 1, 0.5], ["part_charge", None]]},
        "pf_mask": {"length": 12, "vars": [["pf_mask", None]]},
        "sv_points": {"length": 3, "pad_mode": "wrap", "vars": [["sv_deta", None], ["sv_dphi", None]]},
        "sv_features": {"length": 3, "vars": [["sv_mass", 1, 2], ["sv_dxy", 0.5, 1, -0.2, 0.2, 0.1], "sv_ntracks"]},
        "sv_vectors": {"length": 3, "vars": ["sv_px", "sv_py", "sv_pz", "sv_energy"]},
        "sv_mask": {"length": 3, "vars": [["sv_mask", None]]},
    },
    "labels": {"type": "simple", "value": ["label_QCD", "label_Hbb"]},
    "observers": ["jet_index"],
}
COUNTS = np.array([0, 2, 5, 1, 0, 3, 4, 0])  # of secondary vertices; more than 3 are cut


def options(**inputs: Any) -> dict[str, Any]:
    changed = copy.deepcopy(OPTIONS)
    changed["inputs"] = {name: own for name, own in {**changed["inputs"], **inputs}.items() if own is not None}
    return changed


def columns(count: int = 40, first: int = 0, seed: int = 0) -> dict[str, Any]:
    particles = np.random.default_rng(seed).integers(0, 16, count)
    jets = jet_columns(count, first, particles=particles)
    labels = {"label_QCD": np.arange(count) % 2, "label_Hbb": 1 - np.arange(count) % 2}
    return {**jets, **labels, **vertex_columns(np.resize(COUNTS, count), seed)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_root(tmp_path / "jets.root", columns())


def test_batches_are_bit_for_bit_those_of_weaver(file: Path) -> None:
    own = DataSchema.from_options(OPTIONS)
    expected, batch, rows = both(file, own, 40)
    assert isinstance(batch.inputs, LoadedJets)
    assert_same_inputs(expected, batch.inputs)
    assert batch.inputs.counts_NG[:8, 1].tolist() == [0, 2, 3, 1, 0, 3, 3, 0]
    assert batch.inputs.more["sv"].padded(5).features.shape == (40, 3, 5)
    assert expected.more["sv"].padded().features.shape == (40, 3, 3)
    assert rows.row_N.tolist() == list(range(40))


def test_an_order_mixed_by_kind_gives_the_same(file: Path) -> None:
    mixed = options()
    names = sorted(mixed["inputs"], key=lambda name: name.split("_")[1])
    mixed["inputs"] = {name: mixed["inputs"][name] for name in names}
    own = DataSchema.from_options(mixed)
    assert [collection.name for collection in own.collections] == ["pf", "sv"]
    _, batch, _ = both(file, own, 40)
    assert_same_inputs(both(file, DataSchema.from_options(OPTIONS), 40)[0], batch.inputs)


def test_a_mask_of_one_collection_leaves_particles_out(file: Path) -> None:
    changed = options()
    changed["new_variables"]["sv_mask"] = "sv_mass > 0.5"
    expected, batch, _ = both(file, DataSchema.from_options(changed), 40)
    assert isinstance(batch.inputs, JetInputs)
    assert_same_inputs(expected, batch.inputs)
    assert 0 < int(batch.inputs.counts_NG[:, 1].sum()) < np.minimum(np.resize(COUNTS, 40), 3).sum()


def test_a_collection_without_a_mask_counts_all_slots(file: Path) -> None:
    expected, batch, _ = both(file, DataSchema.from_options(options(sv_mask=None)), 40)
    assert_same_inputs(expected, batch.inputs)
    assert batch.inputs.counts_NG[:, 1].tolist() == [3] * 40


def test_particles_in_arrays_of_one_length(tmp_path: Path) -> None:
    own = columns()
    fixed = vertex_columns(np.full(40, 4))
    own |= {name: ak.to_regular(ak.unflatten(ak.flatten(column), 4)) for name, column in fixed.items()}
    path = tmp_path / "jets.parquet"
    ak.to_parquet(ak.zip(own, depth_limit=1), path)
    expected, batch, _ = both(path, DataSchema.from_options(OPTIONS), 40)
    assert_same_inputs(expected, batch.inputs)
    assert batch.inputs.counts_NG[:, 1].tolist() == [3] * 40


def tensors(jets: JetColumns) -> list[torch.Tensor]:
    inputs = jets.batch().inputs.ragged()
    return [part for own in (inputs, inputs.more["sv"]) for part in (own.features_VC, own.points_V2)]


def test_columns_are_taken_joined_and_pickled_together(file: Path) -> None:
    jets = RowReader(DataSchema.from_options(OPTIONS), training=False).read(Span(file, 0, 40)).jets
    index_N = torch.tensor([7, 2, 2, 39, 0])
    one_by_one = JetColumns.concatenate([jets.take(slice(index, index + 1)) for index in index_N.tolist()])
    chosen = jets.take(index_N)
    assert one_by_one.observers["jet_index"].tolist() == index_N.tolist()
    for same in (
        one_by_one,
        pickle.loads(pickle.dumps(chosen)),
        JetColumns.concatenate([chosen.take(slice(0, 2)), chosen.take(slice(2, 5))]),
    ):
        for ours, expected in zip(tensors(same), tensors(chosen), strict=True):
            assert torch.equal(ours, expected)
    whole = jets.batch().inputs.select(index_N)
    assert_same_inputs(whole.padded(), chosen.batch().inputs)


def test_a_cache_gives_the_same_jets(tmp_path: Path) -> None:
    files = [write_root(tmp_path / f"{first}.root", columns(40, first, first)) for first in (0, 40)]
    own = DataSchema.from_options(OPTIONS)
    cache = build_cache(tmp_path / "cache", Job(own, own, files, training=False))
    direct = list(evaluation_loader(own, files, batch_size=32))
    cached = list(evaluation_loader(own, files, batch_size=32, cache=cache))
    assert sum(map(len, cached)) == 80
    for ours, expected in zip(cached, direct, strict=True):
        assert_same_inputs(expected.inputs.padded(), ours.inputs)
        assert ours.observers["jet_index"].tolist() == expected.observers["jet_index"].tolist()


def test_a_cache_is_of_one_order_of_the_collections(tmp_path: Path) -> None:
    files = [write_root(tmp_path / "jets.root", columns())]
    own = DataSchema.from_options(OPTIONS)
    names = sorted(OPTIONS["inputs"], reverse=True)  # secondary vertices first
    swapped = DataSchema.from_options({**OPTIONS, "inputs": {name: OPTIONS["inputs"][name] for name in names}})
    assert (own == swapped, len({own, swapped})) == (False, 2)
    build_cache(tmp_path / "cache", Job(own, own, files, training=False))
    assert find_cache(tmp_path / "cache", own, files, training=False) is not None
    assert find_cache(tmp_path / "cache", swapped, files, training=False) is None
    of_kinds = sorted(OPTIONS["inputs"], key=lambda name: name.split("_")[1])  # the same order of the collections
    mixed = DataSchema.from_options({**OPTIONS, "inputs": {name: OPTIONS["inputs"][name] for name in of_kinds}})
    assert (mixed == own, hash(mixed) == hash(own)) == (True, True)


def test_shuffled_jets_keep_their_vertices(tmp_path: Path) -> None:
    files = [write_root(tmp_path / f"{first}.root", columns(40, first, first)) for first in (0, 40)]
    loader = training_loader(DataSchema.from_options(OPTIONS), files, batch_size=16, num_workers=0, seed=3)
    seen = torch.cat([batch.inputs.counts_NG for batch in loader])
    expected = torch.cat(
        [batch.inputs.counts_NG for batch in evaluation_loader(DataSchema.from_options(OPTIONS), files, batch_size=80)]
    )
    assert not seen.equal(expected)
    assert sorted(seen.tolist()) == sorted(expected.tolist())


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {"sv_features": None},
            "no input group sv_features; add one, or rename or remove sv_points, sv_vectors, sv_mask",
        ),
        ({"sv_mask": {"length": 4, "vars": ["sv_mask"]}}, r"differ in length \(.*sv_features 3, .*sv_mask 4\)"),
        ({"sv_vectors": {"length": 3, "vars": ["sv_px"]}}, "sv_vectors has 1 variables, it needs 4"),
        ({"sv_extra": {"length": 3, "vars": ["sv_px"]}}, "input groups sv_extra cannot be used"),
        (
            {"jet_numbers": {"length": None, "vars": ["jet_pt"]}},
            "jet_numbers has no length, so it holds one number per jet; call it",
        ),
    ],
)
def test_what_makes_no_collection_is_named(inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        DataSchema.from_options(options(**inputs))


def test_a_short_column_is_named(tmp_path: Path) -> None:
    own = columns()
    own["sv_mass"] = vertex_columns(np.resize(COUNTS, 40) + 1)["sv_mass"]
    path = tmp_path / "jets.parquet"
    ak.to_parquet(ak.zip(own, depth_limit=1), path)
    with pytest.raises(DataError, match=r"row 0: sv_mass has 1 numbers?, other inputs have 0"):
        RowReader(DataSchema.from_options(OPTIONS), training=False).read(Span(path, 0, 40))


def test_the_yaml_of_the_package_is_read(tmp_path: Path) -> None:
    path = Path(__file__).parents[2] / "data_configs" / "CMS_AK8_pf_sv.yaml"
    text = yaml.safe_load(path.read_text(encoding="utf-8"))
    own = DataSchema.load(path)
    assert own.options == text
    assert {collection.name: collection.length for collection in own.collections} == {"pf": 128, "sv": 10}


@pytest.mark.parametrize(
    ("column", "problem"),
    [
        (lambda pt: ak.from_iter([[value] for value in pt]), "jet_pt is not one number per jet"),
        (lambda pt: np.where(np.arange(len(pt)) == 3, np.nan, pt), "row 3: jet_pt is NaN"),
    ],
)
def test_numbers_of_the_jet_that_are_none(column: Callable[..., Any], problem: str, tmp_path: Path) -> None:
    own = columns()
    own["jet_pt"] = column(np.linspace(400, 900, 40))
    path = tmp_path / "jets.parquet"
    ak.to_parquet(ak.zip(own, depth_limit=1), path)
    schema = DataSchema.from_options(options(jet_globals={"length": None, "vars": [["jet_pt", 500, 0.01]]}))
    with pytest.raises(DataError, match=problem):
        RowReader(schema, training=False).read(Span(path, 0, 40))
    if "NaN" in problem:
        lenient = DataSchema.from_options(schema.options, bad_values="zero")
        found = RowReader(lenient, training=False).read(Span(path, 0, 40))
        numbers = globals_of(found.jets.batch().inputs)
        assert numbers is not None
        assert numbers[3, 0] == 0
        assert found.bad == {"NaN in jet_pt": 1}


def test_a_number_that_a_jet_lacks(tmp_path: Path) -> None:
    own = options(jet_globals={"length": None, "vars": [["leading", 0.5, 1]]})
    own["new_variables"]["leading"] = "ak.firsts(sv_mass)"
    path = write_root(tmp_path / "jets.root", columns())
    with pytest.raises(DataError, match=r"row 0: leading has no value; fill it by ak\.fill_none"):
        RowReader(DataSchema.from_options(own), training=False).read(Span(path, 0, 40))
    own["new_variables"]["leading"] = "ak.fill_none(ak.firsts(sv_mass), 0.5)"
    found = RowReader(DataSchema.from_options(own), training=False).read(Span(path, 0, 40))
    numbers = globals_of(found.jets.batch().inputs)
    assert numbers is not None
    assert numbers[0, 0] == 0


def test_small_whole_numbers_of_the_jet_keep_their_distance_from_the_centre(tmp_path: Path) -> None:
    own = columns()
    own["jet_n"] = np.resize(np.array([3, 200, 7], dtype=np.uint8), 40)  # 3 - 5 is 254 in their type
    path = tmp_path / "jets.parquet"
    ak.to_parquet(ak.zip(own, depth_limit=1), path)
    schema = DataSchema.from_options(options(jet_globals={"length": None, "vars": [["jet_n", 5, 2, -100, 100]]}))
    numbers = globals_of(RowReader(schema, training=False).read(Span(path, 0, 40)).jets.batch().inputs)
    assert numbers is not None
    assert numbers[:3, 0].tolist() == [-4, 100, 4]
