"""What a data YAML may say, and how it is told when it says something wrong."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from phaze_ee.data.schema import DataSchema
from phaze_ee.errors import DataError
from tests.data.small import OPTIONS, options, schema, write_yaml

CONFIGS = Path(__file__).parents[2] / "data_configs"
GROUP = {"length": 12, "vars": ["part_px"]}


@pytest.mark.parametrize(
    ("name", "features", "classes"),
    [
        ("JetClass_full", 19, 10),
        ("JetClass_ParT_full", 17, 10),
        ("JetClass_ParT_kinpid", 13, 10),
        ("JetClass_ParT_kin", 7, 10),
        ("TopLandscape_kin", 7, 2),
        ("QuarkGluon_kinpid", 13, 2),
    ],
)
def test_our_configs(name: str, features: int, classes: int) -> None:
    loaded = DataSchema.load(CONFIGS / f"{name}.yaml")
    assert (loaded.feature_count, len(loaded.class_names), loaded.length) == (features, classes, 128)
    assert set(loaded.groups) == {"points", "features", "vectors", "mask"}
    assert {group["pad_mode"] for key, group in loaded.options["inputs"].items() if key != "pf_mask"} == {"wrap"}


def test_options_survive_json_and_pickle(tmp_path: Path) -> None:
    loaded = DataSchema.load(write_yaml(tmp_path / "data.yaml", OPTIONS))
    assert DataSchema.from_options(json.loads(json.dumps(loaded.options))) == loaded
    assert pickle.loads(pickle.dumps(loaded)) == loaded
    assert loaded.options == OPTIONS, "weaver's own changes stay out"


def inputs(**groups: Any) -> dict[str, Any]:
    merged = {**OPTIONS["inputs"], **groups}
    return {name: group for name, group in merged.items() if group is not None}


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"selecton": "jet_pt > 500"}, "unknown key 'selecton'; did you mean 'selection'?"),
        ({"inputs": inputs(pf_extra={**GROUP, "ndim": 2})}, "unknown key 'inputs.pf_extra.ndim'; remove or correct it"),
        ({"labels": None}, "'labels' is missing"),
        ({"labels": {"type": "custom", "value": {"y": "jet_pt"}}}, "labels of type 'custom' are not supported"),
        (
            {"labels": {"type": "hybrid", "value": {"a": ["label_a", "label_b"], "b": {"mass": "jet_mass"}}}},
            r"labels of type 'hybrid' are not supported in this form: .* write type: simple, .* targets: {name: expr",
        ),
        (
            {"labels": {"type": "custom", "value": {"y": "a", "z": "b"}}},
            r"one value, .* \(found: y, z\); leave that one",
        ),
        ({"labels": {"type": "simple", "value": ["a", "b"], "names": ["a"]}}, "names has 1 names for 2 classes"),
        ({"labels": {"type": "simple", "value": ["a", "b"], "names": ["a", "a"]}}, "name a class twice"),
        (
            {"labels": {"type": "simple", "value": ["label_QCD"]}},
            "labels.value: a classifier needs two classes or more",
        ),
        ({"labels": {"type": "simple", "value": ["label_QCD", "label_QCD"]}}, "name a class twice"),
        (
            {"inputs": inputs(sv_points=GROUP)},
            "no input group sv_features; add one, or rename or remove sv_points",
        ),
        ({"inputs": inputs(pf_extra=GROUP)}, "input groups pf_extra cannot be used"),
        (
            {"inputs": {name: {"length": None, "vars": ["jet_pt"]} for name in ("basic", "high_level")}},
            "no input group has a length, so the inputs are numbers of the jet alone; networks here take particles",
        ),
        ({"inputs": inputs(pf_features=None)}, r"no input group \*_features"),
        ({"inputs": inputs(pf_vectors=GROUP)}, "pf_vectors has 1 variables, it needs 4"),
        ({"inputs": inputs(pf_mask={"length": 9, "vars": ["part_mask"]})}, "differ in length"),
        ({"inputs": inputs(pf_mask={"length": "many", "vars": ["part_mask"]})}, "inputs.pf_mask.length"),
        ({"inputs": inputs(pf_mask={"length": 12.5, "vars": ["part_mask"]})}, "inputs.pf_mask.length"),
        (
            {"inputs": inputs(jet_globals={"length": 12.0, "vars": ["jet_pt"]})},
            "jet_globals has length 12, and [*]_globals hold one number per jet; make its length null",
        ),
        (
            {"inputs": inputs(a_globals={"length": None, "vars": ["x"]}, b_globals={"length": None, "vars": ["y"]})},
            "a_globals and b_globals hold numbers of the jet; put all into one group",
        ),
        ({"inputs": inputs(pf_mask={"length": 12, "vars": [[None]]})}, "None is not the name of a variable"),
        ({"inputs": inputs(pf_mask={"length": 12, "vars": [["x", 0, "a"]]})}, "scale of x cannot be used: .* number"),
        ({"inputs": inputs(pf_mask={"length": 12, "vars": [["x", float("nan")]]})}, "center of x cannot .* finite"),
        (
            {"inputs": inputs(pf_mask={"length": 12, "vars": [["x", 0, 1, -1e99]]})},
            "min of x cannot be used: .* single precision .* or .inf for no limit",
        ),
        ({"preprocess": {"params": {}}}, "preprocess.params has no entry for part_deta"),
        (
            {"preprocess": {"params": {"part_deta": {"length": 12}}}},
            "part_deta.pad_mode' is missing|center' is missing",
        ),
        ({"new_variables": {"a": "np.log(b", "b": "part_px"}}, "the expression of 'a' is not Python"),
        ({"new_variables": {"a": "b + 1", "b": "a + 1"}}, "defined through themselves: "),
        ({"new_variables": {"part_px": "np.abs(part_px)"}}, "part_px -> part_px"),
        ({"weights": {"use_precomputed_weights": True}}, "weight_branches is missing"),
        ({"observers": ["a"], "monitor_variables": ["b"]}, "weaver refuses it"),
    ],
)
def test_wrong_yaml_is_told_in_one_line(sections: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write_yaml(tmp_path / "wrong.yaml", options(**sections))
    with pytest.raises(DataError, match=message) as caught:
        DataSchema.load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"), [("a: [", "not valid YAML"), ("- a", "holds no sections"), ("", "no sections")]
)
def test_a_file_that_is_no_config(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        DataSchema.load(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="cannot read data config"):
        DataSchema.load(tmp_path / "absent.yaml")


def test_a_syntax_error_is_told_briefly_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    path.write_text("labels:\n   type: simple\n  value: [a]\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        DataSchema.load(path)
    expected = "expected <block end>, but found '<block mapping start>'"
    assert str(caught.value) == (
        f"data config {path}:3: not valid YAML: {expected}; correct the indentation or syntax there"
    )
    path.write_text("a: \x07", encoding="utf-8")
    with pytest.raises(DataError, match="not valid YAML: special characters are not allowed"):
        DataSchema.load(path)


def test_two_classes_from_expressions() -> None:
    two = schema(labels={"type": "simple", "value": ["label_QCD", "1 - label_QCD"]})
    assert two.class_names == ("label_QCD", "1 - label_QCD")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"labels": {"type": "simple", "value": ("a", "b")}},
            r"stranger: labels.value \(tuple\) is no list",
        ),
        ({"inputs": inputs(pf_mask={"length": 12, "vars": [{"x"}]})}, r"vars.0 \(set\) is no list or mapping"),
    ],
)
def test_options_of_a_checkpoint_hold_what_a_yaml_can_hold(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        DataSchema.from_options(options(**sections), "stranger")
