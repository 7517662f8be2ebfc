"""Exported taggers in Python without torch: the same answers, and one line for what is wrong with a folder."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import phaze_ee
from phaze_ee.errors import DataError, UsageError
from phaze_ee.export.check import FileSession
from phaze_ee.workspace import Project
from tests.export.files import policy_for
from tests.export.test_consumers import COUNTS, NAMES, VARIABLES, padded, raw_jets
from tests.modes.exit_policies import write_policy
from tests.modes.two_class_project import make_project, save_best_model

JETS = raw_jets(COUNTS)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    made = make_project(tmp_path)
    save_best_model(made)
    write_policy(made, policy_for(phaze_ee.load(str(made)), "confidence", padded(JETS)))
    return made


@pytest.fixture
def folder(project: Project, tmp_path: Path) -> Path:
    return phaze_ee.export_onnx(str(project), tmp_path / "out")


@pytest.mark.parametrize("one_jet", [False, True])
def test_a_bundle_answers_as_the_file(project: Project, tmp_path: Path, one_jet: bool) -> None:
    made = phaze_ee.export_onnx(str(project), tmp_path / "out", one_jet=one_jet)
    bundle = phaze_ee.load_bundle(made)
    variables = {name: [jet[row] for jet in JETS] for row, name in enumerate(VARIABLES)}
    result = bundle.predict(variables)
    scores_NK, index_N = FileSession((made / "model.onnx").read_bytes(), NAMES)(padded(JETS))
    np.testing.assert_array_equal(result.scores_NK, scores_NK)
    np.testing.assert_array_equal(result.exit_index_N, index_N)
    assert (bundle.classes, bundle.exits) == (("is_qcd", "is_top"), ("exit_0", "exit_1", "full_model"))
    assert bundle.one_jet == one_jet
    assert bundle.predict({name: [] for name in VARIABLES}).scores_NK.shape == (0, 2)


def test_variables_are_standardised_as_weaver_says(folder: Path) -> None:
    path = folder / "preprocess.json"
    described = json.loads(path.read_text())
    described["pf_features"]["var_infos"]["p_pt"] |= {
        "median": 1.0, "norm_factor": 2.0, "lower_bound": -5, "upper_bound": 5, "replace_inf_value": 7, "pad": 3,
    }  # fmt: skip
    path.write_text(json.dumps(described))
    seal(folder)
    values = [np.array([1.5, 100.0, np.inf, -np.inf])]
    inputs = phaze_ee.load_bundle(folder).inputs(dict.fromkeys(VARIABLES, values))
    assert inputs["pf_features"][0, 2, :6].tolist() == [1.0, 5.0, 5.0, 5.0, 3.0, 3.0]
    assert inputs["pf_features"].shape == (1, 3, 16)


@pytest.mark.parametrize("one_jet", [False, True])
@pytest.mark.parametrize("name", ["pf_points", "pf_features", "pf_mask"])
def test_inputs_of_other_jets_or_particles_are_refused(
    project: Project, tmp_path: Path, name: str, one_jet: bool
) -> None:
    bundle = phaze_ee.load_bundle(phaze_ee.export_onnx(str(project), tmp_path / "out", one_jet=one_jet))
    inputs = bundle.inputs({name: [jet[row] for jet in JETS] for row, name in enumerate(VARIABLES)})
    assert len(bundle(inputs).exit_index_N) == len(JETS)
    whole = inputs[name]
    for wrong in (whole[:1], whole[:-1], whole[:, :, :5], np.concatenate([whole, whole[:1]]), whole[:0]):
        with pytest.raises(UsageError, match=rf"do not have the same jets and particles: .*{name} \({len(wrong)}, "):
            bundle({**inputs, name: wrong})


def test_a_bundle_says_what_it_is(folder: Path) -> None:
    words = repr(phaze_ee.load_bundle(folder))
    assert words.startswith("<Bundle classes is_qcd, is_top; exits exit_0, exit_1, full_model; any number of jets; ")
    unpromised = phaze_ee.export_onnx(str(Project("Tops", "small")), folder.with_name("full"), policy=None)
    assert repr(phaze_ee.load_bundle(unpromised)).endswith("; no promise>")


def test_a_file_that_is_no_network_is_refused(folder: Path) -> None:
    path = folder / "model.onnx"
    path.write_bytes(path.read_bytes()[:5000])
    seal(folder)
    with pytest.raises(DataError, match=r"cannot load .*model\.onnx: .*export again"):
        phaze_ee.load_bundle(folder)


def test_torch_is_not_imported(folder: Path) -> None:
    program = (
        f"import phaze_ee, sys; bundle = phaze_ee.load_bundle({str(folder)!r}); "
        "print(bundle.predict({name: [[0.5, 0.1]] for name in ('p_eta', 'p_phi', 'p_pt', 'p_mask')})); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'weaver', 'awkward', 'pydantic', 'onnx')))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def seal(folder: Path) -> None:
    """Write the checksums again."""
    from phaze_ee.export.bundle import _checksums

    (folder / "SHA256SUMS").unlink()
    (folder / "SHA256SUMS").write_text(_checksums(folder))


def test_a_file_that_has_changed_is_refused(folder: Path) -> None:
    (folder / "preprocess.json").write_text("{}")
    with pytest.raises(DataError, match=r"preprocess\.json is not what mode export wrote; copy the folder again"):
        phaze_ee.load_bundle(folder)


def test_a_description_of_another_network_is_refused(folder: Path) -> None:
    path = folder / "preprocess.json"
    described = json.loads(path.read_text())
    described["pf_features"]["var_names"].pop()
    path.write_text(json.dumps(described))
    seal(folder)
    with pytest.raises(DataError, match=r"describes the inputs .*pf_features \(2\).* and model.onnx takes .*\(3\)"):
        phaze_ee.load_bundle(folder)
    described["pf_features"]["var_length"] = -1
    for text in ('{"input_names": ["pf_mask"]}', json.dumps(described)):
        path.write_text(text)
        seal(folder)
        with pytest.raises(DataError, match="is not weaver's description of inputs"):
            phaze_ee.load_bundle(folder)


def test_a_folder_without_a_tagger_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no exported tagger"):
        phaze_ee.load_bundle(tmp_path)


def test_wrong_inputs_are_refused(folder: Path) -> None:
    bundle = phaze_ee.load_bundle(folder)
    with pytest.raises(UsageError, match="needs the variable p_eta"):
        bundle.predict({"p_pt": [[1.0]]})
    with pytest.raises(UsageError, match="inputs are list, not a dict from names"):
        bundle([1, 2])  # type: ignore[arg-type]
    variables = {name: [[0.5, 0.1], [0.2]] for name in VARIABLES}
    for wrong in ([[0.5, 0.1], []], [[0.5, 0.1]], [[0.5], [0.1, 0.2]]):
        for name in VARIABLES:  # of the same input, and of another one
            with pytest.raises(UsageError, match="have other numbers of jets or of their particles"):
                bundle.predict({**variables, name: wrong})
    with pytest.raises(UsageError, match="p_phi is not one list of numbers for each jet"):
        bundle.predict({**variables, "p_phi": [0.5, 0.1]})
    with pytest.raises(UsageError, match="the variable p_phi holds no numbers"):
        bundle.predict({**variables, "p_phi": [["a", "b"], ["c"]]})
    with pytest.raises(UsageError, match="variables are ndarray, not a dict"):
        bundle.predict(np.ones(3))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="needs the input pf_points and got pf_mask"):
        bundle({"pf_mask": np.ones((1, 1, 3))})
    with pytest.raises(
        UsageError, match=r"input pf_points has the shape \(1, 3\) and must have \(jets, 2, particles\)"
    ):
        bundle({"pf_points": np.ones((1, 3)), "pf_features": np.ones((1, 3, 3)), "pf_mask": np.ones((1, 1, 3))})
