"""Other data than the bundled jets: two classes, other formats, published weights on real jets."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow.parquet
import pytest
import tables
import torch
import uproot

from phaze_ee.cli import main
from phaze_ee.models.checkpoint import load_checkpoint
from phaze_ee.workspace import Project
from tests.end_to_end.command import SMALL, edit, environment
from tests.jetclass_files import jetclass_columns, random_jets, write_jetclass_root, write_root
from tests.modes.two_class_project import JETS, make_project, save_best_model
from tests.published import published_network, real_jets

TWO_CLASSES = ("-p", "Tops", "small")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    return tmp_path


def evaluation(project: Project) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(project.evaluation_results.read_text(encoding="utf-8"))
    return loaded


def scores(project: Project) -> dict[str, float]:
    assert main(["-m", "evaluate", "-p", project.workspace, project.name]) == 0
    return {name: evaluation(project)[name]["loss"] for name in ("exit_0", "exit_1", "full_model")}


def write_hdf5(path: Path, columns: ak.Array) -> None:
    with tables.open_file(str(path), "w") as file:
        for name in columns.fields:
            file.create_array("/", name, ak.to_numpy(columns[name]))


def test_two_classes_of_top_tagging_train_and_evaluate_unchanged(folder: Path) -> None:
    """The configuration of the bundled jets with another data_config; the jets in the schema of that file."""
    columns = jetclass_columns(*random_jets(JETS))
    write_root(folder / "tops.root", columns | {"label": np.arange(JETS) % 2})
    project = Project("Tops", "first")
    assert main(["-m", "new_project", "-p", "Tops", "first"]) == 0
    files = [str(folder / "tops.root")]
    edit(project, **SMALL | {"train_files": files}, val_files=files, test_files=files)
    edit(project, data_config="data_configs/TopLandscape_kin.yaml", background="label_QCD")
    assert main(["-m", "chain", "-p", "Tops", "first", "-o", "train_evaluate_benchmark"]) == 0
    assert evaluation(project)["jets_per_class"] == {"label_top": JETS // 2, "label_QCD": JETS // 2}
    assert {rejection["signal"] for rejection in evaluation(project)["full_model"]["rejections"]} == {"label_top"}
    assert project.benchmark_results.is_file()


def test_root_hdf5_and_parquet_give_the_same(folder: Path) -> None:
    project = make_project(folder)
    save_best_model(project)
    from_root = scores(project)
    columns = uproot.open(folder / "val.root")["Events"].arrays(library="ak")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(columns.to_list()), folder / "val.parquet")
    write_hdf5(folder / "val.h5", columns)
    lines = project.config.read_text(encoding="utf-8")
    for name in ("val.parquet", "val.h5"):
        project.config.write_text(f"{lines}    c.test_files = [{str(folder / name)!r}]\n", encoding="utf-8")
        assert scores(project) == from_root
        assert evaluation(project)["files"] == [str(folder / name)]


def test_published_weights_on_real_jets_score_as_in_weaver(folder: Path, shared_dir: Path) -> None:
    """c.init_from and evaluate, against weaver's own module on the same 248 jets."""
    with np.load(shared_dir / "data" / "jetclass_real_dev.npz") as archive:
        write_jetclass_root(folder / "real.root", archive["vectors"], archive["points"], archive["label"])
    project = Project("JetClass", "published")
    assert main(["-m", "new_project", "-p", "JetClass", "published"]) == 0
    edit(
        project,
        data_config="data_configs/JetClass_ParT_kin.yaml",
        test_files=[str(folder / "real.root")],
        conv_params=[(16, (64, 64, 64)), (16, (128, 128, 128)), (16, (256, 256, 256))],
        fc_params=[(256, 0.1)],
        init_from=str(shared_dir / "weights" / "ParticleNet_kin.pt"),
    )
    assert main(["-m", "evaluate", "-p", "JetClass", "published"]) == 0

    inputs, label_N = real_jets(shared_dir)
    network = published_network(shared_dir, "kin")
    with torch.inference_mode():
        predicted_N = network(inputs.points, inputs.features, inputs.mask).argmax(dim=1)
    result = evaluation(project)
    expected = (predicted_N == label_N).double().mean().item()
    assert 0.7 < expected < 0.8
    assert result["full_model"]["accuracy"] == pytest.approx(expected, abs=1e-12)
    assert result["jets"] == len(label_N)
    confusion = np.zeros((10, 10), dtype=int)
    np.add.at(confusion, (label_N.numpy(), predicted_N.numpy()), 1)
    assert result["full_model"]["confusion_matrix"] == confusion.tolist()
    assert any("random weights" in note for note in result["notes"])


def test_workspaces_lie_below_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PHAZE_EE_WORKSPACES", raising=False)
    monkeypatch.chdir(tmp_path)
    assert main(["-m", "new_project", "-p", "W", "P"]) == 0
    assert (tmp_path / "phaze_ee" / "workspaces" / "W" / "P" / "config" / "P_config.py").is_file()


def test_a_name_with_dots_makes_a_project_that_works(folder: Path) -> None:
    assert main(["-m", "new_project", "-p", "W", "lr_1e-3_v1.2"]) == 0
    assert main(["-m", "benchmark", "-p", "W", "lr_1e-3_v1.2"]) == 0
    assert Project("W", "lr_1e-3_v1.2").benchmark_results.is_file()


def test_interrupting_a_training_ends_in_one_line_and_a_usable_model(folder: Path) -> None:
    project = make_project(folder, "c.epochs = 100_000", "c.zero_epochs = 0", "c.tensorboard = False")
    process = subprocess.Popen(
        [sys.executable, "-m", "phaze_ee", "-m", "train", *TWO_CLASSES],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(folder / "workspaces"),
        cwd=folder,
    )
    try:
        assert process.stdout is not None
        line = next(line for line in process.stdout if line.startswith("epoch "))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert line
    assert process.returncode == 1
    assert errors.startswith("phaze_ee: error: interrupted in epoch ")
    assert errors.endswith(f"{project.models / 'latest_model.pt'} holds the network at that point\n")
    assert errors.count("\n") == 1
    assert load_checkpoint(project.models / "latest_model.pt").tagger.exit_names == ("exit_0", "exit_1", "full_model")
