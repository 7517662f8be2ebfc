"""Forms of a data YAML that weaver takes: without values, in upper case, with more entries, with numbered classes."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import uproot
import yaml
from weaver.utils.data.preprocess import _build_new_variables

from phaze_ee.data.loaders import evaluation_loader
from phaze_ee.data.rows import RowReader
from phaze_ee.data.schema import DataSchema
from phaze_ee.data.table import Span, read_table
from phaze_ee.data.yaml_forms import usual_form
from phaze_ee.errors import DataError
from tests.data.small import OPTIONS, jet_columns, jet_files, options, write_yaml
from tests.jetclass_files import LABELS, write_root

CLASSES = {"type": "custom", "value": {"truth": "jet_index % 3"}}


def with_variable(*entries: Any) -> dict[str, Any]:
    inputs: dict[str, Any] = copy.deepcopy(OPTIONS["inputs"])
    inputs["pf_features"]["vars"][0] = list(entries)
    return inputs


@pytest.mark.parametrize(
    ("other", "usual"),
    [
        ({"preprocess": {"method": "manual", "data_fraction": None}}, {"preprocess": {"method": "manual"}}),
        ({"preprocess": {"method": None, "data_fraction": None, "params": None}}, {"preprocess": {}}),
        ({"inputs": with_variable("part_pt_log", 1.7, 0.7, -5, 5, 0.25, 1.5, "x")}, {}),
        ({"inputs": with_variable("part_pt_log", "17e-1", "0.7", "-5", "5E0", "25e-2")}, {}),
    ],
)
def test_other_forms_mean_the_usual_one(other: dict[str, Any], usual: dict[str, Any]) -> None:
    expected = DataSchema(options(**{"inputs": with_variable("part_pt_log", 1.7, 0.7, -5, 5, 0.25), **usual}))
    assert DataSchema({**expected.options, **other}) == expected
    chosen = expected.weaver.preprocess_params["part_pt_log"]
    assert [chosen[name] for name in ("center", "scale", "min", "max", "pad_value")] == [1.7, 0.7, -5, 5, 0.25]


def test_upper_case_and_no_pad_mode() -> None:
    inputs = copy.deepcopy(OPTIONS["inputs"])
    inputs["pf_features"]["pad_mode"], inputs["pf_vectors"]["pad_mode"] = "WRAP", None
    assert DataSchema(options(inputs=inputs)).options == OPTIONS
    params = {
        name: {**own, "pad_mode": "Constant"} for name, own in DataSchema(OPTIONS).weaver.preprocess_params.items()
    }
    read = DataSchema(options(preprocess={"method": "manual", "data_fraction": None, "params": params}))
    assert {own["pad_mode"] for own in read.weaver.preprocess_params.values()} == {"constant"}


@pytest.mark.parametrize(
    "labels",
    [
        {"type": "custom", "value": {"truth": "jet_index", "other": "jet_index"}},
        {"type": "custom", "value": {"truth": 3}, "names": ["b", "c"]},
        {"type": "hybrid", "value": "label_QCD", "value_custom": ["jet_pt"]},
        {"type": "hybrid", "value": list(LABELS), "cls": list(LABELS), "value_custom": ["jet_pt"]},
        {"type": "hybrid", "value": list(LABELS)},
    ],
)
def test_labels_that_are_no_usual_form_stay_and_are_named(labels: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=f"labels of type '{labels['type']}' are not supported"):
        DataSchema(usual_form(options(labels=labels), class_count=3))


def test_an_automatic_standardisation_needs_no_section(tmp_path: Path) -> None:
    schema = DataSchema(options(inputs=with_variable("part_pt_log", "auto")))
    center = schema.resolve(jet_files(tmp_path, [30])).weaver.preprocess_params["part_pt_log"]["center"]
    assert 0 < center < 10


def numbered(folder: Path, count: int = 3, **labels: Any) -> DataSchema:
    path = write_yaml(folder / "data.yaml", options(labels={**CLASSES, **labels}))
    return DataSchema.load(path, class_count=lambda: count)


def test_classes_with_numbers_are_those_of_weaver(tmp_path: Path) -> None:
    schema = numbered(tmp_path)
    files = jet_files(tmp_path, [20])
    table = read_table(schema.weaver, Span(files[0], 0, 20), ["jet_index"])
    expected = _build_new_variables(table, CLASSES["value"])["truth"]
    label_N = torch.cat([batch.label_N for batch in evaluation_loader(schema, files, batch_size=7)])
    assert label_N.tolist() == expected.tolist() == [jet % 3 for jet in range(20)]
    assert schema.class_names == ("truth_0", "truth_1", "truth_2")
    assert DataSchema.from_options(schema.options).class_names == schema.class_names


def test_classes_have_the_names_of_the_data_configuration(tmp_path: Path) -> None:
    assert numbered(tmp_path, 0, names=["b", "c", "light"]).class_names == ("b", "c", "light")
    with pytest.raises(DataError, match="names of the 4 classes"):
        numbered(tmp_path, 4, names=["b", "c", "light"])
    with pytest.raises(DataError, match=r"labels\.names must be a list with the names of the 3 classes"):
        numbered(tmp_path, 3, names="bcl")
    named = DataSchema(options(labels={"type": "simple", "value": list(LABELS[:2]), "names": ["one", "two"]}))
    assert (named.class_names, named.labels) == (("one", "two"), LABELS[:2])


def test_the_examples_of_the_document() -> None:
    text = (Path(__file__).parents[2] / "docs" / "DATA.md").read_text(encoding="utf-8")
    numbers, labels, targets = (yaml.safe_load(part.split("```")[0]) for part in text.split("```yaml\n")[1:])
    assert DataSchema(usual_form(options(**labels))).class_names == ("light", "c", "b")
    inputs = {**options()["inputs"], **numbers["inputs"]}
    found = DataSchema(usual_form(options(inputs=inputs))).globals
    assert found is not None
    assert found.feature_count == 2
    assert DataSchema(usual_form(options(**targets))).targets == {"log_pt": "np.log(jet_pt)", "mass": "jet_sdmass"}


def test_a_number_that_is_no_class_is_named(tmp_path: Path) -> None:
    columns = {**jet_columns(6), "jet_index": np.array([0, 1, 1, 7, 0, 1])}
    path = write_root(tmp_path / "jets.root", columns)
    path_of_yaml = write_yaml(tmp_path / "d.yaml", options(labels={"type": "custom", "value": {"truth": "jet_index"}}))
    schema = DataSchema.load(path_of_yaml, class_count=lambda: 2)
    with pytest.raises(DataError, match=r"jets.root row 3: .* truth = 7"):
        RowReader(schema, training=False).read(Span(path, 0, 6))
    with uproot.open(path) as file:
        assert file["tree"]["jet_index"].array()[3] == 7
