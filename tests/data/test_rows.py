"""Rows of files: the three formats, expressions, checks, and the errors that name file, branch and row."""

import re
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import tables
import torch
import uproot

from phaze_ee.data.rows import RowReader
from phaze_ee.data.schema import DataSchema
from phaze_ee.data.sources import open_source
from phaze_ee.data.table import Span, numbers_of
from phaze_ee.data.weaver_yaml import texts_in
from phaze_ee.errors import DataError
from phaze_ee.types import JetBatch
from tests.data.small import LENGTH, OPTIONS, jet_columns, options, schema
from tests.jetclass_files import write_root


def write_parquet(path: Path, columns: dict[str, Any]) -> Path:
    ak.to_parquet(ak.Array(columns), str(path), row_group_size=7)
    return path


def write_hdf5(path: Path, columns: dict[str, Any]) -> Path:
    with tables.open_file(str(path), "w") as file:
        for name, column in columns.items():
            if isinstance(column, ak.Array):
                leaf = file.create_vlarray("/", name, tables.Float32Atom())
                for row in column:
                    leaf.append(np.asarray(row))
            else:
                file.create_array("/", name, column)
    return path


def read(path: Path, own: DataSchema, start: int = 0, stop: int = 20, *, training: bool = False) -> JetBatch:
    return RowReader(own, training=training).read(Span(path, start, stop)).jets.batch()


@pytest.mark.parametrize(("suffix", "write"), [("root", write_root), ("parquet", write_parquet), ("h5", write_hdf5)])
def test_formats_give_the_same_jets_for_any_rows(suffix: str, write: Any, tmp_path: Path) -> None:
    columns = jet_columns(20)
    path = write(tmp_path / f"jets.{suffix}", columns)
    with open_source(path) as source:
        assert source.row_count == 20
    for start, stop in ((0, 20), (3, 4), (6, 15), (19, 20)):
        batch = read(path, schema(), start, stop)
        assert batch.observers["jet_index"].tolist() == list(range(start, stop))
        jets = batch.inputs.padded()
        assert jets.features.shape == (stop - start, 3, LENGTH)
        for row, jet in enumerate(range(start, stop)):
            px = np.asarray(columns["part_px"][jet])
            expected = np.zeros(LENGTH)
            expected[: len(px)] = px[:LENGTH]
            assert jets.vectors is not None
            np.testing.assert_allclose(jets.vectors[row, 0], expected, rtol=1e-6)
            np.testing.assert_allclose(jets.points[row, 0], np.resize(columns["part_deta"][jet], LENGTH))
            assert batch.inputs.particle_count_N[row] == min(len(px), LENGTH)


def test_padding_of_an_hdf5_file_is_cut_away(tmp_path: Path) -> None:
    columns = jet_columns(20)
    lists = {name: column for name, column in columns.items() if isinstance(column, ak.Array)}
    longest = int(ak.max(ak.num(lists["part_px"])))
    padded = {
        f"{name}_padded": ak.to_numpy(ak.fill_none(ak.pad_none(column, longest), 0)).astype(np.float32)
        for name, column in lists.items()
    }
    others = {name: column for name, column in columns.items() if name not in lists}
    cut = {name: f"{name}_padded[part_energy_padded > 0]" for name in lists}
    path = write_hdf5(tmp_path / "padded.h5", {**others, **padded})
    found = read(path, schema(new_variables={**cut, **OPTIONS["new_variables"]})).inputs.padded()
    expected = read(write_hdf5(tmp_path / "lists.h5", columns), schema()).inputs.padded()
    for name in ("features", "points", "mask"):
        assert torch.equal(getattr(found, name), getattr(expected, name))


def test_damaged_files_are_told_in_one_line(tmp_path: Path) -> None:
    columns = jet_columns(20)
    paths = [
        write_root(tmp_path / "a.root", columns),
        write_parquet(tmp_path / "a.parquet", columns),
        write_hdf5(tmp_path / "a.h5", columns),
    ]
    for path in paths:
        whole = path.read_bytes()
        for fraction in (0, 0.01, 0.2, 0.5, 0.8, 0.99):
            path.write_bytes(whole[: int(fraction * len(whole))])
            with pytest.raises(DataError, match=path.name) as caught:
                read(path, schema())
            assert "\n" not in str(caught.value)
            assert not re.search("[ ,.;:];", str(caught.value))


def test_files_without_the_tree(tmp_path: Path) -> None:
    columns = jet_columns(5)
    path = tmp_path / "two.root"
    with uproot.recreate(path) as file:
        for name in ("first", "second"):
            file.mktree(name, {"jet_index": np.int64})
            file[name].extend({"jet_index": columns["jet_index"]})
    with pytest.raises(
        DataError, match=r"two\.root has no tree 'tree'; it holds first \(TTree\), second \(TTree\); correct"
    ):
        read(path, schema())
    with pytest.raises(
        DataError, match=r"two\.root must hold one tree; it holds first \(TTree\), second \(TTree\); name"
    ):
        read(path, schema(treename=None))
    assert len(read(write_root(tmp_path / "one.root", columns, "other"), schema(treename=None), 0, 5)) == 5
    with pytest.raises(DataError, match=r"jets\.txt is not a data file"):
        read(tmp_path / "jets.txt", schema())


def changed(columns: dict[str, Any], **new: Any) -> dict[str, Any]:
    return {**columns, **new}


def spoiled(columns: dict[str, Any], name: str, jet: int, value: float, particle: int = 0) -> dict[str, Any]:
    flat, count = np.array(ak.flatten(columns[name])), ak.num(columns[name])
    flat[int(np.sum(count[:jet])) + particle] = value
    return {**columns, name: ak.unflatten(flat, count)}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("part_charge", np.nan, "row 13: part_charge is NaN"),
        ("part_deta", np.inf, "row 13: part_deta is infinite"),
        ("part_energy", 0.0, "row 13: part_e_log is infinite"),
    ],
)
def test_nan_and_infinity_are_refused(name: str, value: float, message: str, tmp_path: Path) -> None:
    path = write_root(tmp_path / "bad.root", spoiled(jet_columns(20), name, 13, value))
    with pytest.raises(DataError, match=rf"bad\.root {message}"):
        read(path, schema(), 5, 20)
    assert len(read(path, schema(selection="jet_index != 13"), 5, 20)) == 14


def test_particles_beyond_the_length_are_not_looked_at(tmp_path: Path) -> None:
    columns = jet_columns(20, particles=np.full(20, LENGTH + 2))
    beyond = write_root(tmp_path / "beyond.root", spoiled(columns, "part_charge", 4, np.nan, particle=LENGTH))
    assert len(read(beyond, schema())) == 20
    within = write_root(tmp_path / "within.root", spoiled(columns, "part_charge", 4, np.nan, particle=LENGTH - 1))
    with pytest.raises(DataError, match="row 4: part_charge is NaN"):
        read(within, schema())


def test_labels_must_be_one_hot(tmp_path: Path) -> None:
    for label, total in (([0] * 20, 9), ([1] * 20, 2)):
        flags = np.array(label, dtype=np.int32)
        flags[:9] = np.arange(9) == 0  # jet number i is of class i % 10
        path = write_root(tmp_path / f"sum{total}.root", changed(jet_columns(20), label_QCD=flags))
        with pytest.raises(DataError, match=rf"sum{total}\.root row {10 if total == 9 else 9}: the labels label_QCD"):
            read(path, schema())


def test_labels_must_be_one_number_a_jet(tmp_path: Path) -> None:
    path = write_root(tmp_path / "jets.root", jet_columns(20))
    for label in ("part_px", "1", "ak.sum(jet_index)"):
        with pytest.raises(DataError, match="is not one number per jet; correct the labels"):
            read(path, schema(labels={"type": "simple", "value": ["label_QCD", label]}))


def test_particles_with_lists_in_some_rows_only(tmp_path: Path) -> None:
    columns = jet_columns(20)
    deeper = ak.Array([[[1.0]], *ak.to_list(columns["part_deta"])[1:]])
    with uproot.recreate(tmp_path / "jets.root") as file:
        file["tree"] = columns | {"part_deta": deeper}
    with pytest.raises(DataError, match=r"jets\.root: part_deta is more than one number per particle"):
        read(tmp_path / "jets.root", schema())


def test_labels_that_are_numbers_in_some_rows_only(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "jets.root") as file:
        file["tree"] = jet_columns(20) | {"label_QCD": ak.Array([1, "a"] * 10)}
    with pytest.raises(DataError, match="label label_QCD is not one number per jet; correct the labels"):
        read(tmp_path / "jets.root", schema())


def test_a_field_of_a_record_is_named_if_a_branch_is_missing(tmp_path: Path) -> None:
    columns = jet_columns(20)
    path = tmp_path / "jets.root"
    record = ak.zip({"px": columns.pop("part_px"), "py": columns.pop("part_py")})
    with uproot.recreate(path) as file:
        file["tree"] = {**columns, "part": record}
    assert uproot.open(path)["tree"].classname == "ROOT::RNTuple"
    with pytest.raises(DataError) as caught:
        read(path, schema())
    assert "no branch part_px (did you mean 'part.px'?)" in str(caught.value)
    assert "part_py (did you mean 'part.py'?)" in str(caught.value)
    assert "fields of records are not read: write each as a branch of its own" in str(caught.value)


@pytest.mark.parametrize("name", ["part.px", "part/px"])
def test_dots_slashes_and_underlines_in_names_of_branches_are_alike(name: str, tmp_path: Path) -> None:
    columns = jet_columns(20)
    columns[name] = columns.pop("part_px")
    path = tmp_path / "jets.root"
    with uproot.recreate(path) as file:
        file.mktree(
            "tree",
            {
                one: column.type.content if isinstance(column, ak.Array) else column.dtype
                for one, column in columns.items()
            },
        )
        file["tree"].extend(columns)
    with pytest.raises(DataError) as caught:
        read(path, schema())
    assert f"no branch part_px (did you mean {name!r}?), which the inputs of data config need; correct" in str(
        caught.value
    )


def test_missing_branch_and_failing_expressions_name_the_variable(tmp_path: Path) -> None:
    columns = jet_columns(20)
    path = write_root(tmp_path / "jets.root", {name: column for name, column in columns.items() if name != "part_py"})
    with pytest.raises(DataError, match=r"jets\.root has no branch part_py, which the inputs of"):
        read(path, schema())
    whole = write_root(tmp_path / "whole.root", columns)
    for formula in ("np.nonsense(part_px)", "part_px + 'a'", "part_px[99]"):
        own = options(new_variables={**OPTIONS["new_variables"], "part_e_log": formula})
        with pytest.raises(DataError, match=r"cannot compute part_e_log = .*whole\.root") as caught:
            read(whole, DataSchema.from_options(own, trusted=texts_in(own)))
        assert "\n" not in str(caught.value)
    for selection in (
        "np.nonsense(jet_index)",
        "__import__('nope')",
        "(_x for _x in ()).__next__()",
        "ak.num(jet_index, axis=2.5)",
    ):
        own = options(selection=selection)
        with pytest.raises(DataError, match="cannot compute selection = "):
            read(whole, DataSchema.from_options(own, trusted=texts_in(own)))


@pytest.mark.parametrize(
    "selection",
    ["True", "1", "part_px > 0", "jet_index[:3] > 0", "ak.sum(jet_index)", "ak.firsts(part_px[part_px > 1e9]) > 0"],
)
def test_a_selection_is_one_truth_per_jet(selection: str, tmp_path: Path) -> None:
    path = write_root(tmp_path / "jets.root", jet_columns(20))
    with pytest.raises(DataError, match=r"cannot compute selection = .*jets\.root: it (must give one|gives neither)"):
        read(path, schema(selection=selection))


@pytest.mark.parametrize(
    "mask", ["1", "True", "jet_index > 3", "ak.num(part_px)", "ak.singletons(ak.singletons(part_px))"]
)
def test_an_input_is_one_number_per_particle(mask: str, tmp_path: Path) -> None:
    path = write_root(tmp_path / "jets.root", jet_columns(20))
    variables = {**OPTIONS["new_variables"], "part_mask": mask}
    with pytest.raises(DataError, match=r"jets\.root: part_mask is (one number per jet|more than one number per part)"):
        read(path, schema(new_variables=variables))


def test_inputs_have_the_same_lengths(tmp_path: Path) -> None:
    columns = jet_columns(20)
    short = ak.concatenate([columns["part_deta"][:13], columns["part_deta"][13:, :-1]])
    path = write_parquet(tmp_path / "jets.parquet", {**columns, "part_deta": short})
    particles = int(ak.num(columns["part_px"])[13])
    message = rf"jets\.parquet row 13: part_deta has {particles - 1} numbers, other inputs have {particles}; correct"
    for start in (0, 5):
        with pytest.raises(DataError, match=message):
            read(path, schema(), start)
    assert len(read(path, schema(), 0, 13)) == 13
    with pytest.raises(DataError, match=message):
        read(path, schema(selection="jet_index > 11"))


def test_missing_numbers_are_refused_where_weaver_cannot_fill_them(tmp_path: Path) -> None:
    path = write_root(tmp_path / "jets.root", jet_columns(20))
    variables = {**OPTIONS["new_variables"], "part_e_log": "ak.mask(part_px, jet_index != 7)"}
    with pytest.raises(DataError, match="row 7: part_e_log has 0 numbers, other inputs have "):
        read(path, schema(new_variables=variables))
    variables["part_e_log"] = "ak.mask(part_px, (part_px == 0) | (jet_index != 7))"
    with pytest.raises(DataError, match=r"row 7: part_e_log has no value for a particle; fill it by ak\.fill_none"):
        read(path, schema(new_variables=variables))
    features = {**OPTIONS["inputs"]["pf_features"], "pad_mode": "constant"}
    batch = read(path, schema(new_variables=variables, inputs={**OPTIONS["inputs"], "pf_features": features}))
    assert (batch.inputs.padded().features[7, 1] == 0).all()


@pytest.mark.parametrize("formula", ["part_px * 1j", "'text'", "ak.zip({'a': part_px, 'b': part_px})"])
def test_an_input_is_a_real_number(formula: str, tmp_path: Path) -> None:
    path = write_root(tmp_path / "jets.root", jet_columns(20))
    own = options(new_variables={**OPTIONS["new_variables"], "part_e_log": formula})
    with pytest.raises(DataError, match=r"jets\.root: part_e_log (does not hold real numbers|is one number per jet)"):
        read(path, DataSchema.from_options(own, trusted=texts_in(own)))


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ("part_px", "sampling weight part_px is not one number per jet"),
        ("jet_index * np.nan", r"row 0: sampling weight jet_index \* np\.nan is NaN"),
    ],
)
def test_a_weight_is_one_finite_number_per_jet(weight: str, message: str, tmp_path: Path) -> None:
    path = write_root(tmp_path / "jets.root", jet_columns(20))
    weights = {"use_precomputed_weights": True, "weight_branches": [weight]}
    own = schema(observers=None, weights=weights)
    with pytest.raises(DataError, match=message):
        read(path, own, training=True)
    with pytest.raises(DataError, match=message):
        RowReader(own, training=True).survey(Span(path, 0, 20))


def test_observers_must_be_one_number_a_jet(tmp_path: Path) -> None:
    path = write_root(tmp_path / "jets.root", jet_columns(20))
    with pytest.raises(DataError, match="observer part_px is not one number per jet"):
        read(path, schema(observers=["part_px"]))


def test_branch_magic_file_magic_and_the_training_flag(tmp_path: Path) -> None:
    columns = {name.replace("part_", "cand_"): column for name, column in jet_columns(20).items()}
    path = write_root(tmp_path / "Zqq_1.root", columns)
    own = schema(
        branch_magic={"part_": "cand_"},
        file_magic={"is_z": {"Zqq": 1, "Wqq": 0}, "is_w": {"Wqq": 1}},
        new_variables={**OPTIONS["new_variables"], "used_for": "jet_index*0 + aux_training_"},
        labels={"type": "simple", "value": ["is_w", "is_z"]},
        observers=None,
        monitor_variables=["used_for"],
    )
    assert read(path, own).label_N.tolist() == [1] * 20
    assert set(read(path, own).observers["used_for"].tolist()) == {0}
    assert set(read(path, own, training=True).observers["used_for"].tolist()) == {1}


def test_selection_may_use_variables_made_of_variables(tmp_path: Path) -> None:
    path = write_root(tmp_path / "jets.root", jet_columns(20))
    variables = {**OPTIONS["new_variables"], "twice": "2*jet_index", "four_times": "2*twice"}
    batch = read(path, schema(new_variables=variables, selection="four_times >= 60"))
    assert batch.observers["jet_index"].tolist() == [15, 16, 17, 18, 19]


def test_without_mask_every_slot_is_real_and_vectors_are_optional(tmp_path: Path) -> None:
    path = write_root(tmp_path / "jets.root", jet_columns(20))
    kept = {name: group for name, group in OPTIONS["inputs"].items() if name in ("pf_points", "pf_features")}
    batch = read(path, schema(inputs=kept))
    assert batch.inputs.padded().vectors is None
    assert batch.inputs.particle_count_N.tolist() == [LENGTH] * 20


@pytest.mark.parametrize("mixed", [["a", [2.6, 0.6]], [[2.6, 0.6], "a"]])
def test_inputs_that_are_texts_in_some_rows_are_refused_in_one_line(mixed: list[Any]) -> None:
    table = ak.Array({"pf": ak.Array(mixed)})
    with pytest.raises(DataError, match="pf does not hold real numbers but union") as caught:
        numbers_of(table, "pf", Path("jets.root"))
    assert "\n" not in str(caught.value)
