"""Errors about data name what is in the file: the variable, what holds it, what needs it, and what is there instead."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from phaze_ee.data.rows import RowReader
from phaze_ee.data.schema import DataSchema
from phaze_ee.data.sources import open_source
from phaze_ee.data.table import Span
from phaze_ee.errors import DataError, shortened
from tests.data.small import OPTIONS, jet_columns, options, write_yaml
from tests.data.test_rows import write_parquet
from tests.jetclass_files import LABELS, write_root

JETS = 6


def error_of(call: Callable[[], Any]) -> str:
    with pytest.raises(DataError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def with_input(name: str) -> dict[str, Any]:
    features = {**OPTIONS["inputs"]["pf_features"], "vars": [name, "part_charge"]}
    return {**OPTIONS["inputs"], "pf_features": features}


def with_variables(**formulas: str) -> dict[str, str]:
    """Return new variables in this order, before those of the small configuration."""
    return {**formulas, **OPTIONS["new_variables"]}


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"inputs": with_input("jet_index")}, "jets.root: jet_index is one number per jet, and an input"),
        ({"observers": ["part_px"]}, "observer part_px is not one number per jet but var * float32"),
        ({"observers": None, "monitor_variables": ["part_px"]}, "monitor variable part_px is not one number per jet"),
        (
            {"observers": ["jet_idx"]},
            "no branch jet_idx (did you mean 'jet_index'?), which the observers (--observers, --bins, or those of ",
        ),
        (
            {"observers": None, "monitor_variables": ["other"]},
            "no branch other, which the monitor_variables of data config need;",
        ),
        ({"selection": "other > 0"}, "no branch other, which the selection of data config needs"),
        ({"test_time_selection": "other > 0"}, "no branch other, which the test_time_selection of data config needs"),
        (
            {"labels": {"type": "simple", "value": ["a == 1", "b"]}},
            "no branch a, b, which the labels of data config need; correct",
        ),
        (
            {"inputs": with_input("other")},
            "jets.root has no branch other, which the inputs of data config need; correct",
        ),
        (
            {"inputs": with_input("a"), "new_variables": with_variables(a="b + 1", b="part_px * 2")},
            "cannot compute a = 'b + 1' on {path}: new_variables define b further down; move it up",
        ),
        (
            {"new_variables": with_variables(a="part_px[:, 99]"), "observers": ["a"]},
            "index out of range while attempting",
        ),
        ({"new_variables": with_variables(a="part_px.pt"), "observers": ["a"]}, "cannot compute a = 'part_px.pt' on"),
    ],
)
def test_what_is_wrong_is_named(sections: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write_root(tmp_path / "jets.root", jet_columns(JETS))
    reader = RowReader(DataSchema(options(**sections)), training=False)
    found = error_of(lambda: reader.read(Span(path, 0, JETS)))
    assert message.format(path=path) in found
    assert "github.com" not in found, "no address in the sources of a library"


def lacking(path: Path, config: Path, *lost: str) -> str:
    """Return the error about a file without some columns of a data configuration in a file."""
    write_root(path, {name: column for name, column in jet_columns(JETS).items() if name not in lost})
    return error_of(lambda: RowReader(DataSchema.load(config), training=False).read(Span(path, 0, JETS)))


def test_a_wrong_branch_comes_with_its_yaml_the_file_and_the_nearest_name(tmp_path: Path) -> None:
    path, config = tmp_path / "jets.root", tmp_path / "my.yaml"
    write_yaml(config, options(inputs=with_input("part_chrge")))
    assert lacking(path, config) == (
        f"{path} has no branch part_chrge (did you mean 'part_charge'?), which the inputs of {config} need; correct "
        "the data config or the file list"
    )
    write_yaml(config, options(branch_magic={"charge": "chrge"}))
    assert "no branch part_chrge (part_charge before branch_magic; did you mean 'part_charge'?)" in lacking(
        path, config
    )


def test_a_name_that_is_needed_itself_is_no_hint(tmp_path: Path) -> None:
    path, config = tmp_path / "jets.root", tmp_path / "my.yaml"
    write_yaml(config, options(observers=["jet_index", "label_QCD"]))
    assert "did you mean" not in lacking(path, config, "label_Hbb", "label_QCD"), "the file has label_Hcc as well"


def test_a_counter_of_root_is_no_hint(tmp_path: Path) -> None:
    path, config = tmp_path / "jets.root", tmp_path / "my.yaml"
    write_yaml(config, options(inputs=with_input("part_chrge"), observers=["part_charge"]))
    write_root(path, {**jet_columns(JETS), "npart_charge": np.zeros(JETS, dtype=np.int32)})
    found = error_of(lambda: RowReader(DataSchema.load(config), training=False).read(Span(path, 0, JETS)))
    assert "no branch part_chrge (did you mean 'part_charge'?)" in found


def test_many_lacking_branches_are_counted_and_each_section_has_its_own(tmp_path: Path) -> None:
    path, config = tmp_path / "jets.root", tmp_path / "my.yaml"
    write_yaml(config, options(observers=["jet_index", "other"]))
    found = lacking(path, config, *LABELS)
    assert " has no branch label_H4q, label_Hbb, label_Hcc, label_Hgg and 6 more, which the labels of " in found
    assert ", nor other (observers); correct the data config, or give files with labels" in found
    assert shortened(found) == found


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"labels": {"type": "simple", "value": "label_QCD"}}, "labels.value: .*valid list, not 'label_QCD'"),
        ({"observers": "jet_index"}, "observers: .*valid list, not 'jet_index'"),
        (
            {"inputs": {**OPTIONS["inputs"], "pf_mask": {"length": 12, "vars": [["m", 0, "x"]]}}},
            "scale of m .* not 'x'",
        ),
        ({"preprocess": {"method": "atuo"}}, "preprocess.method: .*be manual or auto: weaver takes .* not 'atuo'"),
        ({"inputs": ["a"] * 40}, "inputs: .*valid dictionary, not .'a'.*…$"),
    ],
)
def test_a_wrong_yaml_is_quoted(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        DataSchema(options(**sections))


def write_groups(file: Any) -> None:
    file["Events/part_px"] = np.zeros(3)
    file["Events/part_py"] = np.zeros(3)


def write_table(file: Any) -> None:
    file["Jets"] = np.zeros(3, dtype=[("pt", "f4"), ("eta", "f4"), ("phi", "f4"), ("e", "f4"), ("m", "f4")])
    file["note"] = "by hand"


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (write_groups, "none with numbers at its root, but the group Events (part_px, part_py)"),
        (
            write_table,
            "none with numbers at its root, but the table Jets (pt, eta, phi, e, …) and the single value note",
        ),
        (lambda file: None, "none with numbers at its root); write each column as an array at the root"),
    ],
)
def test_an_hdf5_file_without_columns_tells_what_it_holds(write: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "jets.h5"
    with h5py.File(path, "w") as file:
        write(file)
    assert message in error_of(lambda: open_source(path).__enter__())


def test_a_table_beside_the_columns_is_named(tmp_path: Path) -> None:
    path = tmp_path / "jets.h5"
    with h5py.File(path, "w") as file:
        file["part_px"] = np.zeros((3, 4))
        write_table(file)
    reader = RowReader(DataSchema(options(observers=["pt"])), training=False)
    found = error_of(lambda: reader.read(Span(path, 0, 3)))
    assert "; it holds the table Jets (pt, eta, phi, e, …) and the single value note; correct" in found


def test_missing_values_are_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "jets.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"a": pyarrow.array([1, None, 3]), "b": [1, 2, 3]}), path)
    with open_source(path) as source:
        assert (source.has_gaps("a"), source.has_gaps("b")) == (True, False)
        with pytest.raises(DataError, match=r"column a has missing values \(nulls\); write numbers in their place"):
            source.read(["a"], 0, 3)


def test_scores_need_no_labels_without_gaps(tmp_path: Path) -> None:
    columns = jet_columns(JETS)
    columns["label_QCD"] = ak.mask(ak.Array(columns["label_QCD"]), columns["jet_index"] != 2)
    path = write_parquet(tmp_path / "jets.parquet", columns)
    reader = RowReader.of_file(DataSchema(OPTIONS), path)
    assert not reader.labelled
    assert len(reader.read(Span(path, 0, JETS))) == JETS


def test_bucketing_is_said_to_have_no_effect(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_yaml(tmp_path / "data.yaml", options(bucketing={"var": "jet_index", "bins": 3}))
    DataSchema.load(path)
    assert f"{path}: bucketing has no effect" in caplog.text
