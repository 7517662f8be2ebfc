"""What files and configurations of other experiments hold: integers, flags, missing values, arrays of a fixed size."""

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch
import uproot

from phaze_ee.data.rows import RowReader, SpanJets
from phaze_ee.data.schema import DataSchema
from phaze_ee.data.table import Span
from phaze_ee.errors import DataError
from phaze_ee.types import JetInputs, globals_of
from tests.data.small import LENGTH, OPTIONS, jet_columns, options, schema, weaver_inputs
from tests.jetclass_files import write_root

JETS = 20


def found(path: Path, own: DataSchema) -> SpanJets:
    return RowReader(own, training=False).read(Span(path, 0, JETS))


def inputs_of(path: Path, own: DataSchema) -> JetInputs:
    return found(path, own).jets.batch().inputs.padded()


def features(*variables: Any) -> dict[str, Any]:
    group = {"length": LENGTH, "pad_mode": "constant", "vars": list(variables)}
    points = {**OPTIONS["inputs"]["pf_points"], "pad_mode": "constant"}
    return {**OPTIONS["inputs"], "pf_points": points, "pf_features": group}


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int8, np.int64, np.bool_])
def test_an_integer_of_the_jet_is_centred_as_a_number(kind: Any, tmp_path: Path) -> None:
    value_N: np.ndarray = (np.arange(JETS) % 2).astype(kind)
    path = write_root(tmp_path / "jets.root", jet_columns(JETS) | {"jet_flag": value_N})
    inputs = {**OPTIONS["inputs"], "jet_globals": {"length": None, "vars": [["jet_flag", 200, 0.01]]}}
    numbers = globals_of(found(path, schema(inputs=inputs)).jets.batch().inputs)
    assert numbers is not None
    assert numbers[:, 0].tolist() == pytest.approx(0.01 * (value_N.astype(float) - 200))


@pytest.mark.parametrize("group", ["pf_features", "jet_globals"])
def test_flags_are_standardised_as_numbers(group: str, tmp_path: Path) -> None:
    columns = jet_columns(JETS)
    path = write_root(tmp_path / "jets.root", columns)
    # The same numbers once as true and false, once as 1 and 0.
    own = []
    for number in ("1", "1.0"):
        variables = {
            **OPTIONS["new_variables"],
            "flag": f"(part_px > 0) * {number}",
            "jet_flag": f"(jet_index > 4) * {number}",
        }
        variables |= {"flag": "part_px > 0", "jet_flag": "jet_index > 4"} if number == "1" else {}
        inputs = features(["flag", "auto"], "part_charge")
        if group == "jet_globals":
            inputs = {**OPTIONS["inputs"], "jet_globals": {"length": None, "vars": [["jet_flag", "auto"]]}}
        own.append(schema(new_variables=variables, inputs=inputs).resolve([path]))
    first, second = (found(path, one).jets.batch().inputs for one in own)
    assert torch.equal(first.padded().features, second.padded().features)
    assert group == "pf_features" or torch.equal(globals_of(first), globals_of(second))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "formula",
    ["part_px / ak.max(part_px, axis=1)", "part_px - ak.firsts(part_px)", "ak.mask(part_px, part_px == part_px)"],
)
@pytest.mark.parametrize("shared", [True, False])
def test_a_formula_whose_values_may_be_missing(formula: str, shared: bool, tmp_path: Path) -> None:
    path = write_root(tmp_path / "jets.root", jet_columns(JETS))
    variables = {**OPTIONS["new_variables"], "share": formula}
    others = [["part_deta", None], ["part_dphi", None]] if shared else ["part_charge"]
    plain = schema(
        new_variables={**variables, "share": f"ak.fill_none({formula}, 0, axis=-1)"}, inputs=features("share", *others)
    )
    own = schema(new_variables=variables, inputs=features("share", *others))
    assert torch.equal(inputs_of(path, own).features, inputs_of(path, plain).features)
    if not shared:
        assert torch.equal(inputs_of(path, own).features, weaver_inputs(path, plain, JETS).features)


def test_jets_without_particles_have_no_leading_one(tmp_path: Path) -> None:
    columns = jet_columns(JETS)
    empty = {name: ak.Array([[], *ak.to_list(own)[1:]]) for name, own in columns.items() if name.startswith("part_")}
    path = write_root(
        tmp_path / "jets.root", columns | {name: ak.values_astype(own, "float32") for name, own in empty.items()}
    )
    variables = {**OPTIONS["new_variables"], "share": "part_px / ak.max(part_px, axis=1)"}
    own = schema(new_variables=variables, inputs=features("share", ["part_deta", None], ["part_dphi", None]))
    assert not inputs_of(path, own).features[0].any()


def test_missing_numbers_that_weaver_cannot_pad_are_named(tmp_path: Path) -> None:
    path = write_root(tmp_path / "jets.root", jet_columns(JETS))
    variables = {**OPTIONS["new_variables"], "share": "ak.mask(part_px, jet_index != 7 * ak.ones_like(part_px))"}
    own = schema(new_variables=variables, inputs=features("share", ["part_deta", None], ["part_dphi", None]))
    with pytest.raises(DataError, match=r"row 7: share has no value for a particle; fill it by ak\.fill_none"):
        found(path, own)


def test_an_observer_whose_values_may_be_missing(tmp_path: Path) -> None:
    path = write_root(tmp_path / "jets.root", jet_columns(JETS))
    variables = {**OPTIONS["new_variables"], "lead": "ak.max(part_px, axis=1)"}
    own = found(path, schema(new_variables=variables, observers=["lead"]))
    expected = ak.max(uproot.open(path)["tree"]["part_px"].array(), axis=1)
    assert own.jets.batch().observers["lead"].tolist() == pytest.approx(expected.tolist())
    variables["lead"] = "ak.mask(jet_index, jet_index != 3)"
    with pytest.raises(DataError, match=r"observer lead has no value for some jets; fill it by ak\.fill_none"):
        found(path, schema(new_variables=variables, observers=["lead"]))


@pytest.mark.parametrize(
    "weights",
    [
        {"use_precomputed_weights": True, "weight_branches": ["lead"]},
        {"reweight_basewgt": "lead"},
        {"reweight_vars": {"lead": [-1000, 0, 1000], "jet_index": [0, 10, 20]}},
    ],
)
def test_a_weight_without_a_value_is_refused(weights: dict[str, Any], tmp_path: Path) -> None:
    path = write_root(tmp_path / "jets.root", jet_columns(JETS))
    section = {
        "use_precomputed_weights": False,
        "reweight_method": "flat",
        "reweight_vars": {"jet_index": [0, 10, 20], "jet_two": [0, 30]},
        "reweight_classes": OPTIONS["labels"]["value"][:1],
        **weights,
    }
    variables = {
        **OPTIONS["new_variables"],
        "lead": "ak.mask(jet_index * 1.0, jet_index != 3)",
        "jet_two": "jet_index + 1",
    }
    own = DataSchema.from_options(options(new_variables=variables, weights=section))
    with pytest.raises(DataError, match=r"row 3: (sampling weight )?lead has no value; fill it by ak\.fill_none"):
        RowReader(own.resolve([path]), training=True).read(Span(path, 0, JETS))


def test_padding_of_arrays_of_a_fixed_size_is_cut_away(tmp_path: Path) -> None:
    columns = jet_columns(JETS)
    path = write_root(tmp_path / "jets.root", columns)
    names = [name for name in columns if name.startswith("part_")]
    slots = {f"raw_{name}": ak.fill_none(ak.pad_none(columns[name], 60, clip=True), 0) for name in names}
    fixed = {name: ak.to_numpy(own).astype(np.float32) for name, own in slots.items()}
    fixed |= {name: np.asarray(own) for name, own in columns.items() if name not in names}
    with uproot.recreate(tmp_path / "fixed.root") as file:
        file.mktree("tree", {name: (own.dtype, own.shape[1:]) for name, own in fixed.items()})
        file["tree"].extend(fixed)
    cut = {name: f"raw_{name}[raw_part_energy > 0]" for name in names}
    own = schema(new_variables=cut | OPTIONS["new_variables"])
    first, second = inputs_of(path, schema()), inputs_of(tmp_path / "fixed.root", own)
    assert torch.equal(first.features, second.features)
    assert torch.equal(first.mask, second.mask)


def test_a_mask_is_never_standardised() -> None:
    variables = {**OPTIONS["new_variables"], "valid": "ak.ones_like(part_px)"}
    inputs = {**OPTIONS["inputs"], "pf_mask": {"length": LENGTH, "vars": ["valid"]}}
    with pytest.raises(DataError, match=r"'auto' would standardise valid of pf_mask, .* write \[valid, null\]"):
        schema(new_variables=variables, inputs=inputs, preprocess={"method": "auto"})
    inputs["pf_mask"] = {"length": LENGTH, "vars": [["valid", None]]}
    assert schema(new_variables=variables, inputs=inputs, preprocess={"method": "auto"}).needs_input_scales


@pytest.mark.parametrize("selection", ["jet_index > 2 and jet_index < 9", "not jet_index", "2 < jet_index < 9"])
def test_python_words_for_arrays_are_explained(selection: str, tmp_path: Path) -> None:
    path = write_root(tmp_path / "jets.root", jet_columns(JETS))
    with pytest.raises(DataError, match=r"and, or, not and a < x < b work on single numbers; write &, \| and ~, with"):
        found(path, schema(selection=selection))


def test_brackets_around_comparisons_are_explained(tmp_path: Path) -> None:
    path = write_root(tmp_path / "jets.root", jet_columns(JETS))
    with pytest.raises(DataError, match=r"& and \| bind more tightly than comparisons; write \(a > 1\) & \(b > 2\)"):
        found(path, schema(selection="jet_index > 2.5 & jet_index < 9"))


def test_a_number_beyond_single_precision_is_no_warning_of_numpy(tmp_path: Path) -> None:
    path = write_root(tmp_path / "jets.root", jet_columns(JETS))
    variables = {**OPTIONS["new_variables"], "huge": "ak.values_astype(part_px, 'float64') * 0 + 1e39"}
    own = schema(new_variables=variables, inputs=features(["huge", 0, 1], ["part_charge", None]))
    assert inputs_of(path, own).features[:, 0].max() == 5  # clipped
