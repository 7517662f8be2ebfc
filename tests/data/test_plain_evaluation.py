"""The evaluation without weaver gives what weaver gives: names, values and types, for all expressions of the YAMLs."""

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from weaver.utils.data.eval_utils import _eval_expr, _get_data_var_names

from phaze_ee.data.branches import columns_for
from phaze_ee.data.plain_config import PlainConfig
from phaze_ee.data.plain_evaluation import names_in, value_of
from phaze_ee.data.schema import DataSchema
from tests.data.test_yaml_collection import yaml_and_file
from tests.data.yaml_collection import COLLECTION

# Jets without particles, numbers per jet, arrays of a fixed length, and integers.
TABLE = ak.Array(
    {
        "pt": [[3.0, 1.0, 2.0], [], [0.5], [float("nan"), -4.0]],
        "eta": [[0.1, -0.2, 0.3], [], [2.0], [1.0, -1.0]],
        "phi": [[1.0, 3.0, -3.0], [], [0.0], [2.0, -2.0]],
        "mass": [[0.1, 0.2, 0.3], [], [0.0], [1.0, 2.0]],
        "jet_pt": [500.0, 600.0, 700.0, 800.0],
        "flavour": [0, 5, 4, 21],
    }
)
TABLE["fixed"] = np.arange(12, dtype=np.float32).reshape(4, 3)
EXPRESSIONS = (
    "_hash(flavour, jet_pt)", "_concat([flavour, flavour])", "_concat([pt, eta], axis=1)",
    "_concat([ak.to_numpy(jet_pt), ak.to_numpy(jet_pt)])", "_stack([ak.to_numpy(jet_pt), ak.to_numpy(flavour)])",
    "_stack([jet_pt, flavour])", "_clip(pt, 0, 2)", "_clip(jet_pt, a_min=550, a_max=650)",
    "_pad(pt, 2)", "_pad(pt, 5, value=-1)", "_pad(jet_pt, 2)", "_pad(ak.to_numpy(fixed), 3)", "_pad(fixed, 4)",
    "_repeat_pad(pt, 5)", "_repeat_pad(jet_pt, 3)", "_batch_argsort(eta)", "_batch_gather(pt, _batch_argsort(eta))",
    "_p4_from_ptetaphim(pt, eta, phi, mass).px", "_p4_from_ptetaphie(pt, eta, phi, pt).mass",
    "_p4_from_pxpypze(pt, eta, phi, mass).pt", "len(pt) * jet_pt", "math.pi * jet_pt",
    "np.log(jet_pt) + awkward.sum(pt, axis=1)",
    "(flavour == 5) & (jet_pt > 550)", "ak.ones_like(pt)",
)  # fmt: skip


def assert_equal(ours: Any, theirs: Any) -> None:
    ours, theirs = ak.Array(ours), ak.Array(theirs)
    assert str(ours.type) == str(theirs.type)
    assert ak.to_list(ak.nan_to_num(ours, nan=-99.5)) == ak.to_list(ak.nan_to_num(theirs, nan=-99.5))


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_helpers_and_libraries(expression: str) -> None:
    assert list(names_in(expression)) == _get_data_var_names(expression)
    assert_equal(value_of(expression, TABLE), _eval_expr(expression, TABLE))


@pytest.mark.parametrize("helper", ["_knn(pt, pt, 2)", "_batch_permute_indices(pt)"])
def test_helpers_that_are_left_out_are_named(helper: str) -> None:
    with pytest.raises(NameError, match=helper.partition("(")[0]):
        value_of(helper, TABLE)


@pytest.mark.parametrize("name", list(COLLECTION))
def test_every_expression_of_the_collection(name: str, tmp_path: Path) -> None:
    path, file = yaml_and_file(tmp_path, name)
    options = DataSchema.load(path).options
    ours, theirs = PlainConfig.of(options, name), DataSchema.load(path).weaver
    for attribute in ("treename", "branch_magic", "file_magic", "selection", "test_time_selection", "label_value"):
        assert getattr(ours, attribute) == getattr(theirs, attribute)
    assert (ours.observer_names, ours.monitor_variables) == (theirs.observer_names, theirs.monitor_variables)
    assert ours.z_variables == theirs.z_variables
    for variable, own in theirs.preprocess_params.items():
        assert (ours.preprocess_params[variable]["length"], ours.preprocess_params[variable]["pad_mode"]) == (
            own["length"],
            own["pad_mode"],
        )
    with uproot.open(file) as root:
        table = root[theirs.treename or "tree"].arrays()
    for old, new in (theirs.branch_magic or {}).items():
        for stored in table.fields:
            table[stored.replace(new, old)] = table[stored]
    for magic in theirs.file_magic or {}:
        table[magic] = 1
    table["aux_training_"] = False
    for variable, formula in columns_for(theirs, theirs.var_funcs)[1].items():
        if not variable.startswith("_") and set(_get_data_var_names(formula)) <= set(table.fields):
            assert_equal(value_of(formula, table), _eval_expr(formula, table))
            table[variable] = value_of(formula, table)
    for expression in filter(None, (ours.test_time_selection, *ours.label_value)):
        if set(_get_data_var_names(expression)) <= set(table.fields):
            assert_equal(value_of(expression, table), _eval_expr(expression, table))
