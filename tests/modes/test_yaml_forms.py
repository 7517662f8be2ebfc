"""Projects with other forms of data: classes by number, no points, and inputs that are NaN."""

from pathlib import Path

import numpy as np
import pytest
import torch
import uproot

from phaze_ee.cli import main
from phaze_ee.errors import DataError
from phaze_ee.modes.session import Session
from phaze_ee.workspace import Project
from tests.modes.predicting import change_yaml, columns_of, notes, rewrite
from tests.modes.two_class_project import JETS, make_project, request, save_best_model

Capture = pytest.CaptureFixture[str]

NETWORK = """
from typing import Any

import torch
from weaver.nn.model.ParticleNet import ParticleNet

from phaze_ee.models.network_file import WeaverNetwork


def get_model(data_config: Any, **kwargs: Any) -> Any:
    network = ParticleNet(
        input_dims=3, num_classes={classes}, conv_params=[(4, (8, 8)), (4, (8, 8))], fc_params=[(8, 0.1)]
    )
    return WeaverNetwork(network, data_config), {{}}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    return make_project(tmp_path)


def configure(project: Project, *lines: str) -> None:
    text = project.config.read_text(encoding="utf-8")
    project.config.write_text(text + "".join(f"    {line}\n" for line in lines), encoding="utf-8")


def run(mode: str, *flags: str) -> int:
    return main(["-m", mode, "-p", "Tops", "small", *flags])


def number_classes(tmp_path: Path, *, files: bool = True) -> None:
    """Let the label be the number of the class: the jet's own number, modulo three."""
    change_yaml(tmp_path, "{type: simple, value: [is_qcd, is_top]}", "{type: custom, value: {truth: flavour}}")
    if files:
        rewrite(tmp_path / "val.root", tmp_path / "val.root", flavour=np.arange(JETS) % 3)


TRAINING = ("c.num_classes = 3", "c.epochs = 1", "c.zero_epochs = 0", "c.tensorboard = False", "c.seed = 1")


def test_classes_by_number_from_training_to_prediction(project: Project, tmp_path: Path, capsys: Capture) -> None:
    number_classes(tmp_path)
    configure(project, *TRAINING, "c.calibration_share = 0.0")
    assert run("train") == 0
    assert run("evaluate") == 0
    assert run("predict") == 0
    assert Session.open(request("predict")).model.schema.class_names == ("truth_0", "truth_1", "truth_2")
    columns = columns_of(project.predictions / "val.root")
    for number in range(3):
        assert columns[f"truth_{number}"].tolist() == [jet % 3 == number for jet in range(JETS)]
        assert 0 < columns[f"score_truth_{number}"].mean() < 1
    capsys.readouterr()
    rewrite(tmp_path / "val.root", tmp_path / "val.root", flavour=np.arange(JETS) % 4)
    assert run("evaluate") == 2
    assert (
        "val.root row 3: the labels truth == 0, truth == 1, truth == 2 sum to 0 (from truth = 3)"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(("classes", "count"), [("3", 3), ("2", 2)])
def test_the_network_file_may_say_how_many_classes_there_are(
    project: Project, tmp_path: Path, classes: str, count: int
) -> None:
    number_classes(tmp_path, files=False)
    (tmp_path / "network.py").write_text(NETWORK.format(classes=classes), encoding="utf-8")
    configure(project, f"c.network_config = {str(tmp_path / 'network.py')!r}")
    session = Session.open(request("train"))
    assert len(session.schema.class_names) == session.build(session.schema).backbone.num_classes == count


def test_a_network_file_that_does_not_say_it(project: Project, tmp_path: Path) -> None:
    number_classes(tmp_path, files=False)
    (tmp_path / "network.py").write_text(NETWORK.format(classes="len(data_config.label_value)"), encoding="utf-8")
    configure(project, f"c.network_config = {str(tmp_path / 'network.py')!r}")
    with pytest.raises(DataError, match=r"without the number of classes: set c\.num_classes if truth is the number"):
        _ = Session.open(request("train")).schema


@pytest.mark.parametrize("names", [("light", "c", "b"), ("light", "c"), ("u", "d", "s", "c")])
def test_names_of_the_classes_say_how_many_there_are(project: Project, tmp_path: Path, names: tuple[str, ...]) -> None:
    number_classes(tmp_path, files=False)
    change_yaml(tmp_path, "{truth: flavour}", f"{{truth: flavour}}, names: [{', '.join(names)}]")
    session = Session.open(request("train"))
    assert session.schema.class_names == names
    assert session.build(session.schema).class_count == len(names)


def test_names_that_do_not_fit_the_number_of_classes(project: Project, tmp_path: Path) -> None:
    number_classes(tmp_path, files=False)
    change_yaml(tmp_path, "{truth: flavour}", "{truth: flavour}, names: [light, c]")
    configure(project, "c.num_classes = 3")
    with pytest.raises(DataError, match=r"labels\.names must be a list with the names of the 3 classes"):
        _ = Session.open(request("train")).schema


def without_points(tmp_path: Path) -> None:
    change_yaml(tmp_path, "  pf_points: {length: 16, vars: [p_eta, p_phi]}\n", "")


PFN = (
    "c.model_name = 'PFN'",
    "c.network_options = {'particle_dims': [8, 8], 'jet_dims': [8]}",
)


def test_points_are_for_networks_that_read_them(project: Project, tmp_path: Path, capsys: Capture) -> None:
    configure(project, *PFN)
    save_best_model(project)
    assert run("predict", "--output", str(tmp_path / "with")) == 0
    without_points(tmp_path)
    save_best_model(project)
    assert run("predict", "--output", str(tmp_path / "without")) == 0
    assert run("convert") == 0
    assert run("evaluate") == 0
    assert run("benchmark") == 0
    one, other = (columns_of(tmp_path / folder / "val.root") for folder in ("with", "without"))
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_a_network_that_looks_for_neighbours_needs_points(project: Project, tmp_path: Path, capsys: Capture) -> None:
    without_points(tmp_path)
    assert run("train") == 2
    assert "builds a ParticleNet, which looks for neighbours among points" in capsys.readouterr().err


def test_bad_values_pass_where_they_may(project: Project, tmp_path: Path, capsys: Capture) -> None:
    save_best_model(project)
    with uproot.open(tmp_path / "val.root") as file:
        momenta = file["Events"]["p_pt"].array(library="np")
    momenta[3, 2], momenta[4, :2] = np.nan, np.inf
    rewrite(tmp_path / "val.root", tmp_path / "bad.root", p_pt=momenta)
    files = ("--files", str(tmp_path / "val.root"), str(tmp_path / "bad.root"))
    assert run("predict", *files) == 2
    assert "bad.root row 3: p_pt is NaN" in capsys.readouterr().err
    configure(project, "c.bad_values = 'zero'")
    assert run("predict", *files) == 0
    said = "bad_values is 'zero', and inputs were set to 0 or clipped: 1 × NaN in p_pt, 2 × infinity in p_pt"
    assert said in notes(capsys.readouterr().out)
    momenta[3, 2], momenta[4, :2] = 0, 0
    rewrite(tmp_path / "val.root", tmp_path / "zeros.root", p_pt=momenta)
    assert run("predict", "--files", str(tmp_path / "zeros.root")) == 0
    bad, zeros = (columns_of(project.predictions / f"{name}.root") for name in ("bad", "zeros"))
    for name in bad:
        np.testing.assert_array_equal(bad[name], zeros[name])
    assert torch.isfinite(torch.from_numpy(bad["score_is_top"])).all()
