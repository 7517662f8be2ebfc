"""Particles and secondary vertices, from generated jets to predictions, through the real command."""

import json
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch
import uproot
import yaml
from weaver.nn.model.ParticleNet import ParticleNetTagger

from phaze_ee.cli import main
from phaze_ee.models.checkpoint import load_checkpoint
from phaze_ee.workspace import Project
from tests.end_to_end.command import fails

PARTS = ("train", "val", "calibration", "test")
CLASSES = ("HToBB", "HToCC", "ZJetsToNuNu")
JETS = 12  # of each class
CONFIG = """
def set_config(c):
    c.data_config = "data_configs/CMS_AK8_pf_sv.yaml"
    c.train_files, c.val_files = [{folder!r} + "/train.parquet"], [{folder!r} + "/val.parquet"]
    c.calibration_files, c.test_files = [{folder!r} + "/calibration.parquet"], [{folder!r} + "/test.parquet"]
    c.calibration_share = 0.0
    c.exit_stages = ["input", 0]
    c.beta_max = 1.0
    c.epochs = 1
    c.zero_epochs = 0
    c.batch_size = 8
    c.num_workers = 0
    c.device = "cpu"
    c.tensorboard = False
    {more}
"""
NETWORKS: dict[str, dict[str, Any]] = {
    "ParticleNet": {"conv_params": [(4, (8, 8)), (4, (12, 12))], "fc_params": [(8, 0.1)]},
    "ParticleNeXt": {"node_dim": 6, "edge_dim": 4, "layer_params": [(4, 16, [(2, 1), (1, 1)], 16)] * 2},
    "ParticleTransformer": {"embed_dims": [12, 8], "pair_embed_dims": [4], "num_heads": 2, "num_layers": 2},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of generated jets: a quarter of each class for every purpose."""
    folder = tmp_path_factory.mktemp("vertices")
    arguments = ("--jets", str(JETS), "--seed", "5", "--workers", "1", "--vertices", "--classes", *CLASSES)
    assert main(("-m", "generate", "--output", str(folder / "generated"), *arguments)) == 0
    samples = [uproot.open(f"{folder}/generated/{name}_000.root:tree").arrays() for name in CLASSES]
    for number, part in enumerate(PARTS):
        jets = [sample[np.arange(JETS) % len(PARTS) == number] for sample in samples]
        ak.to_parquet(ak.concatenate(jets), folder / f"{part}.parquet")
    return folder


def make_project(folder: Path, name: str, *lines: str) -> Project:
    project = Project("CMS", name)
    project.config.parent.mkdir(parents=True)
    more = "\n    ".join(lines)
    project.config.write_text(CONFIG.format(folder=str(folder), more=more), encoding="utf-8")
    return project


@pytest.fixture
def workspaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", NETWORKS)
def test_the_whole_chain(name: str, folder: Path, workspaces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = make_project(folder, name, f"c.model_name = {name!r}", f"c.network_options = {NETWORKS[name]!r}")
    assert main(("-m", "chain", "-p", "CMS", name, "-o", "train_evaluate")) == 0
    if name == "ParticleNet":  # nine jets keep no promise, which is status 1, and the policy is the full model
        assert main(("-m", "calibrate", "-p", "CMS", name)) in (0, 1)
        assert project.exit_policy.is_file()
    assert main(("-m", "chain", "-p", "CMS", name, "-o", "predict_benchmark")) == 0
    assert "Traceback" not in capsys.readouterr().err
    tagger = load_checkpoint(project.best_model).tagger
    assert tagger.backbone.collections == {"pf": 17, "sv": 12}
    costs = json.loads(project.benchmark_results.read_text(encoding="utf-8"))
    count_NG = torch.tensor([[128, 10]])
    full = int(tagger.exit_macs(count_NG, exits=())[-1])  # without the heads of the exits
    expected = [*tagger.exit_macs(count_NG)[:-1, 0].tolist(), full]
    assert [costs[name]["macs"] for name in ("exit_0", "exit_1", "full_model")] == expected
    (written,) = (project.root / "output" / "predictions").glob("*.root")
    with uproot.open(written) as file:
        predictions = file[file.keys()[0]].arrays()
    jets = ak.from_parquet(folder / "test.parquet")
    assert len(predictions) == len(jets)
    assert np.allclose(predictions["jet_pt"], jets["jet_pt"])


def test_a_cache_is_trained_on(folder: Path, workspaces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = NETWORKS["ParticleNet"]
    make_project(folder, "cached", f"c.conv_params = {options['conv_params']!r}", "c.fc_params = [(8, 0.1)]")
    assert main(("-m", "convert", "-p", "CMS", "cached")) == 0
    assert main(("-m", "train", "-p", "CMS", "cached")) == 0
    assert "for training)" in capsys.readouterr().out
    assert main(("-m", "evaluate", "-p", "CMS", "cached")) == 0


def test_weavers_tagger_gets_exits(folder: Path, workspaces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    network = ParticleNetTagger(17, 12, 3, conv_params=[(4, (8, 8)), (4, (12, 12))], fc_params=[(8, 0.1)])
    weights = {f"mod.{name}": value for name, value in network.state_dict().items()}
    torch.save(weights, workspaces / "net_best.pt")
    lines = ("c.conv_params = [(4, (8, 8)), (4, (12, 12))]", "c.fc_params = [(8, 0.1)]", "c.use_fusion = True")
    project = make_project(folder, "retrofitted", *lines)
    retrofit = ("-m", "retrofit", "-p", "CMS", "retrofitted", "--checkpoint", str(workspaces / "net_best.pt"))
    assert main(retrofit) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "the full model answers bit for bit as" in printed
    assert f"its {len(weights)} tensors are the same" in printed
    trained = load_checkpoint(project.best_model).tagger.backbone.state_dict()
    assert all(torch.equal(trained[name], value) for name, value in weights.items())


def test_a_network_for_particles_alone_is_refused(
    folder: Path, workspaces: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_project(folder, "flow", "c.model_name = 'PFN'")
    problem = fails(capsys, 2, "-m", "train", "-p", "CMS", "flow")
    assert "builds a PFN for one collection of particles, and the data_config has the collections pf, sv" in problem


def test_numbers_of_the_jet(folder: Path, workspaces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = yaml.safe_load((Path(__file__).parents[2] / "data_configs/CMS_AK8_pf_sv.yaml").read_text(encoding="utf-8"))
    own["inputs"]["jet_globals"] = {"length": None, "vars": [["jet_pt", 700, 0.005], ["jet_sdmass", 80, 0.02]]}
    (workspaces / "numbers.yaml").write_text(yaml.safe_dump(own, sort_keys=False), encoding="utf-8")
    options = NETWORKS["ParticleNet"]
    lines = (f"c.conv_params = {options['conv_params']!r}", "c.fc_params = [(8, 0.1)]")
    data = f"c.data_config = {str(workspaces / 'numbers.yaml')!r}"
    project = make_project(folder, "numbers", *lines, data)
    assert main(("-m", "convert", "-p", "CMS", "numbers")) == 0
    assert main(("-m", "chain", "-p", "CMS", "numbers", "-o", "train_evaluate_predict_benchmark")) == 0
    assert load_checkpoint(project.best_model).tagger.globals_count == 2
    make_project(folder, "more_exits", *lines, data, "c.exit_stages = [0, 1]")
    retrofit = ("-m", "retrofit", "-p", "CMS", "more_exits", "--checkpoint", str(project.best_model))
    assert main(retrofit) == 0
    assert "the full model answers bit for bit as" in " ".join(capsys.readouterr().out.split())
    assert "jet_globals (numbers of the jet itself) cannot be written to a file yet" in fails(
        capsys, 2, "-m", "export", "-p", "CMS", "numbers"
    )
    damaged = torch.load(project.best_model, weights_only=True)
    del damaged["data_options"]["inputs"]["jet_globals"]
    torch.save(damaged, project.best_model)
    assert "its network reads 17 + 12 + 2 features" in fails(capsys, 2, "-m", "evaluate", "-p", "CMS", "numbers")
