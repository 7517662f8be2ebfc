"""Changes of a data configuration since a training: what a training computes is none, what a user edits is one."""

import copy
from pathlib import Path
from typing import Any

import pytest

from phaze_ee.data.changes import changed_sections, with_free_sections_of
from tests.data.small import OPTIONS, jet_files, schema
from tests.jetclass_files import LABELS

AUTO = {"method": "auto", "data_fraction": 1.0}


def inputs(variable: list[Any]) -> dict[str, Any]:
    changed: dict[str, Any] = copy.deepcopy(OPTIONS["inputs"])
    changed["pf_features"]["vars"][1] = variable
    return changed


@pytest.mark.parametrize(
    ("sections", "changed"),
    [
        ({}, []),
        ({"selection": None}, []),
        ({"weights": None}, []),
        ({"selection": "jet_pt > 500"}, ["selection"]),
        ({"observers": None, "test_time_selection": "jet_pt > 500"}, ["observers", "test_time_selection"]),
        ({"labels": {**OPTIONS["labels"], "value": list(LABELS)[::-1]}}, ["labels"]),
        ({"new_variables": {**OPTIONS["new_variables"], "part_pt_log": "np.log10(part_pt)"}}, ["new_variables"]),
        ({"inputs": inputs(["part_e_log", 2, 0.8, -1, 1])}, ["inputs"]),
        ({"preprocess": {"method": "manual", "params": None}}, []),
        ({"treename": "Events"}, ["treename"]),
    ],
)
def test_sections_that_a_user_edits_are_named(sections: dict[str, Any], changed: list[str]) -> None:
    assert changed_sections(schema(), schema(**sections)) == changed


def test_what_a_training_computes_is_no_change(tmp_path: Path) -> None:
    (file,) = jet_files(tmp_path, [300])
    now = schema(preprocess=AUTO, inputs=inputs(["part_e_log", "auto"]))
    trained = now.resolve([file])
    assert trained != now
    assert changed_sections(trained, now) == []
    assert changed_sections(trained, schema(preprocess=AUTO)) == ["inputs"]


def test_a_model_takes_the_observers_of_now_and_what_they_are_made_from() -> None:
    trained = schema(new_variables={**OPTIONS["new_variables"], "old": "jet_pt"}, observers=["old"])
    formulas = {**OPTIONS["new_variables"], "ratio": "mass / jet_pt", "mass": "jet_sdmass", "unused": "jet_pt"}
    now = schema(new_variables=formulas, observers=None, monitor_variables=["ratio"], treename="Events")
    adopted = with_free_sections_of(trained, now)
    assert list(adopted.weaver.z_variables) == ["ratio"]
    assert adopted.weaver.treename == "Events"
    assert {"old", "ratio", "mass"} <= set(adopted.weaver.var_funcs)
    assert "unused" not in adopted.weaver.var_funcs
    assert changed_sections(adopted, now) == []  # a formula that nothing uses makes no difference
    assert with_free_sections_of(adopted, now) is adopted


def test_a_formula_of_the_inputs_stays_that_of_the_training() -> None:
    now = schema(new_variables={**OPTIONS["new_variables"], "part_pt_log": "np.log10(part_pt)"}, observers=["jet_eta"])
    adopted = with_free_sections_of(schema(), now)
    assert list(adopted.weaver.z_variables) == ["jet_eta"]
    assert adopted.options["new_variables"] == schema().options["new_variables"]
    assert changed_sections(adopted, now) == ["new_variables"]
