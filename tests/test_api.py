"""The public Python interface: its names and signatures are frozen here, and it answers as the network does."""

import inspect
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import phaze_ee
from phaze_ee.errors import CheckpointError, UsageError
from phaze_ee.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from phaze_ee.workspace import Project
from tests.jets import random_jets, small_tagger
from tests.modes.exit_policies import write_policy
from tests.modes.two_class_project import make_project, save_best_model
from tests.published import published_network, real_jets

SIGNATURES = {
    "export_onnx": "(source, folder, *, policy, files, one_jet, opset, licence, plugins)",
    "load": "(source, *, data_config, network_config, plugins, trust)",
    "Audit": "(rate, near)",
    "Bundle": "(session, groups)",
    "load_bundle": "(folder, *, threads)",
    "load_policy": "(project, *, name, plugins)",
    "read_jets": "(source, files, *, batch_size, labelled)",
    "register": "(part)",
    "with_globals": "(jets, globals_NG)",
    "Engine": "(tagger, policy, *, threads, chunk_size, backend, event_budget, audit, precision, graphs)",
    "EngineResult": "(logits_NK, exit_index_N, macs_N, visited_NEK, refused_N, *, audit, value_NR)",
    "EventBudget": "(macs)",
    "JetInputs": "(points, features, vectors, mask, *, more)",
    "RaggedJets": "(points_V2, features_VC, vectors_V4, particle_count_N, *, more)",
    "Tagger": "(backbone, exit_stages, exit_head, heads, *, head_shape, link, targets)",
    "ThresholdPolicy": "(score, thresholds, temperatures, *, promise, precision, model_hash)",
}


def test_the_names_are_those_that_are_documented() -> None:
    assert set(dir(phaze_ee)) == set(phaze_ee.__all__) == {*SIGNATURES, "__version__"}
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        phaze_ee.lod  # noqa: B018


@pytest.mark.parametrize(("name", "signature"), SIGNATURES.items())
def test_signatures_do_not_change(name: str, signature: str) -> None:
    parameters = inspect.signature(getattr(phaze_ee, name)).parameters.values()
    keyword_only = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    positional = [parameter.name for parameter in parameters if parameter.kind is not parameter.KEYWORD_ONLY]
    assert f"({', '.join([*positional, *(['*'] if keyword_only else []), *keyword_only])})" == signature


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import phaze_ee, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "best_model.pt"
    save_checkpoint(path, Checkpoint(small_tagger().float(), {}, {}, "hash", 1, {}))
    return path


def test_a_checkpoint_is_loaded_and_answers(checkpoint: Path) -> None:
    jets = random_jets((3, 9, 5), dtype=torch.float32)
    tagger = phaze_ee.load(checkpoint)
    policy = phaze_ee.ThresholdPolicy("confidence", [0.9, 0.8, 0.0])
    result = phaze_ee.Engine(tagger, policy=policy, threads=2)(jets)
    with torch.no_grad():
        logits_ENK = tagger(jets)
    assert int(result.exit_index_N.max()) <= 2  # everything has reached 0.0 by the third exit
    torch.testing.assert_close(result.logits_NK, logits_ENK[result.exit_index_N, torch.arange(3)], rtol=0, atol=1e-5)


def test_a_project_is_loaded(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path))
    project = Project("W", "p")
    project.config.parent.mkdir(parents=True)
    project.config.touch()
    with pytest.raises(CheckpointError, match=r"best_model\.pt does not exist"):
        phaze_ee.load("W/p")
    project.models.mkdir(parents=True)
    checkpoint.rename(project.best_model)
    assert phaze_ee.load("W/p").exit_stages == (0, 1, 2)


@pytest.mark.parametrize("source", ["nothing", "a/b/c", "W/missing"])
def test_what_is_not_there_is_refused(source: str) -> None:
    with pytest.raises(UsageError, match=source):
        phaze_ee.load(source)


def test_a_policy_and_jets_are_read_for_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    project = make_project(tmp_path)
    save_best_model(project)
    with pytest.raises(UsageError, match=r"exit_policy\.json does not exist yet; run mode 'calibrate'"):
        phaze_ee.load_policy("Tops/small")
    write_policy(project, phaze_ee.ThresholdPolicy("margin", [0.3, 0.4], [1.0, 2.0, 3.0]))
    policy = phaze_ee.load_policy("Tops/small")
    assert (policy.thresholds, policy.temperatures) == ((0.3, 0.4), (1.0, 2.0, 3.0))
    batches = list(phaze_ee.read_jets("Tops/small", [tmp_path / "val.root"], batch_size=30))
    assert [len(batch) for batch in batches] == [30, 10]
    for size in (0, -1):
        with pytest.raises(UsageError, match=f"batch_size = {size} is no number of jets; give 1 or more"):
            phaze_ee.read_jets("Tops/small", [tmp_path / "val.root"], batch_size=size)
    wrong: list[Any] = [[], str(tmp_path / "val.root")]
    for files in wrong:
        with pytest.raises(UsageError, match="is no list of paths; give for example"):
            phaze_ee.read_jets("Tops/small", files)
    engine = phaze_ee.Engine(phaze_ee.load("Tops/small"), policy)
    assert engine(batches[0].inputs).logits_NK.shape == (30, 2)


def test_a_policy_of_another_project_is_refused_by_an_engine_and_an_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    project = make_project(tmp_path)
    save_best_model(project)
    write_policy(project, phaze_ee.ThresholdPolicy("margin", [0.3, 0.4]))
    tagger, policy = phaze_ee.load("Tops/small"), phaze_ee.load_policy("Tops/small")
    with torch.no_grad():
        next(tagger.parameters()).mul_(2)
    other = tmp_path / "other.pt"
    saved = load_checkpoint(project.best_model)
    save_checkpoint(other, replace(saved, tagger=tagger))
    of_other = phaze_ee.load(other)
    for form in (of_other, of_other.packed()):
        for own in (policy, policy.capped(1)):
            with pytest.raises(UsageError, match="the policy was calibrated for another model"):
                phaze_ee.Engine(form, own)
    phaze_ee.Engine(of_other, phaze_ee.ThresholdPolicy("margin", [0.3, 0.4]))
    pytest.importorskip("onnx")
    with pytest.raises(UsageError, match="the policy was calibrated for another model"):
        phaze_ee.export_onnx(other, tmp_path / "export", policy=policy)
    assert not (tmp_path / "export").exists()


def test_a_weaver_checkpoint_is_loaded_with_its_data_config(shared_dir: Path) -> None:
    path = shared_dir / "weights" / "ParticleNet_kin.pt"
    tagger = phaze_ee.load(path, data_config="data_configs/JetClass_ParT_kin.yaml")
    inputs = real_jets(shared_dir)[0].select(torch.arange(20))
    with torch.no_grad():
        expected = published_network(shared_dir, "kin")(inputs.points, inputs.features, inputs.mask)
    torch.testing.assert_close(phaze_ee.Engine(tagger)(inputs).logits_NK, expected, rtol=0, atol=5e-5)
