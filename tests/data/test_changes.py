"""Changes of a data configuration since a training: what a training computes is none, what a user edits is one."""

import copy
from pathlib import Path
from typing import Any

import pytest

from phaze_ee.data.changes import changed_sections
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
