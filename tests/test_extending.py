"""The code of docs/EXTENDING.md works: in the command line in all modes, in a sweep, in workers, and in Python."""

import hashlib
import inspect
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import uproot

import phaze_ee
from phaze_ee.config.load import load_options
from phaze_ee.errors import CheckpointError
from phaze_ee.exits.policy_file import ExitPolicyFile
from phaze_ee.models.checkpoint import load_checkpoint
from phaze_ee.results.evaluation import EvaluationResults
from phaze_ee.results.sweep import SweepResults
from phaze_ee.user_files import import_file
from phaze_ee.workspace import Project
from tests.contracts.backbone import LENGTHS, BackboneContract
from tests.end_to_end.command import SMALL, command, environment
from tests.parts import nothing_registered

DOCUMENT = (Path(__file__).resolve().parents[1] / "docs" / "EXTENDING.md").read_text(encoding="utf-8")
BLOCKS: list[str] = re.findall(r"```python\n(.*?)```", DOCUMENT, flags=re.DOTALL)
# A promise that a network of this size can keep: a calibration without one ends with status 1.
SETTINGS = "".join(f"    c.{name} = {value!r}\n" for name, value in (SMALL | {"epsilon": 0.2}).items())
JETS = "    c.data_config = 'data_configs/JetClass_ParT_kin.yaml'\n    c.val_files = ['sample_jets/val/*.root']\n"
PREDICTED = "HToBB_000.root"
PREDICT = ("--files", f"sample_jets/test/{PREDICTED}")


def shown(text: str) -> str:
    """Return the one block of the document that contains ``text``."""
    (block,) = (block for block in BLOCKS if text in block)
    return block


def parts_file() -> str:
    """Return ``my_parts.py``: the imports and the parts, as the document shows them."""
    parts = [block for block in BLOCKS if block.startswith("@phaze_ee.register")]
    assert len(parts) == 4
    return "\n\n".join([shown("Parts of my own for PHAZE-EE"), *parts])


def chosen(*lines: str) -> str:
    return "".join(f"    {line}\n" for line in lines)


@dataclass(frozen=True)
class Run:
    """A project with parts of its own that the command has trained, and where it was run."""

    workspaces: Path
    project: Project
    cwd: Path

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return command(self.workspaces, *arguments, cwd=self.cwd)

    def succeed(self, mode: str, *arguments: str) -> str:
        result = self("-m", mode, "-p", self.project.workspace, self.project.name, *arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def python(self, code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.cwd,
            env=environment(self.workspaces),
        )


def make_run(factory: pytest.TempPathFactory, config: str, files: dict[str, str]) -> Run:
    """Write a project of its own workspace, whose files stand in the project's folder."""
    workspaces = factory.mktemp("workspaces")
    run = Run(workspaces, Project("W", "own"), factory.mktemp("elsewhere"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHAZE_EE_WORKSPACES", str(workspaces))
        run.project.config.parent.mkdir(parents=True)
        run.project.config.write_text(config, encoding="utf-8")
        for name, content in files.items():
            (run.project.root / name).write_text(content, encoding="utf-8")
    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A project with the head, link, loss and score of the document in a plug-in, taken through the modes."""
    config = shown('c.plugins = ["my_parts.py"]') + JETS + SETTINGS
    run = make_run(tmp_path_factory, config, {"my_parts.py": parts_file()})
    run.succeed("chain", "-o", "train_calibrate_evaluate_benchmark_predict", *PREDICT)
    return run


@pytest.fixture
def own(trained: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The trained project, in a process that knows nothing of its parts yet."""
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(trained.workspaces))
    return trained


def test_every_mode_uses_the_parts_of_a_plugin(own: Run) -> None:
    project, plugin = own.project, own.project.root / "my_parts.py"
    with nothing_registered():
        load_options(project.config)
        checkpoint = load_checkpoint(project.best_model)
        tagger = checkpoint.tagger
        assert (tagger.head_names, tagger.link.name) == (("max", "max"), "average")
        assert checkpoint.options["exit_loss_strategy"] == "focal_flow"
        assert ExitPolicyFile.read(project.exit_policy, "calibrate").score.name == "largest_logit"
    (record,) = torch.load(project.best_model, weights_only=True)["plugins"]
    assert record["path"] == str(plugin)
    assert record["sha256"] == hashlib.sha256(plugin.read_bytes()).hexdigest()
    assert record["parts"] == (("exit_head", "max"), ("exit_link", "average"))
    assert list(EvaluationResults.read(project.evaluation_results, "evaluate").exits) == [
        "exit_0",
        "exit_1",
        "full_model",
    ]


def test_workers_of_predict_give_the_same_answers(own: Run, tmp_path: Path) -> None:
    own.succeed("predict", *PREDICT, "--workers", "2", "--output", str(tmp_path))
    with uproot.open(own.project.predictions / PREDICTED) as alone, uproot.open(tmp_path / PREDICTED) as parallel:
        first, second = (file["Events"].arrays(library="np") for file in (alone, parallel))
    assert len(first["exit_index"]) > 0
    for name, column in first.items():
        np.testing.assert_allclose(second[name], column, atol=1e-5)


def test_trials_of_a_sweep_keep_a_copy_of_the_plugin(own: Run) -> None:
    own.succeed("sweep", "--set", "lr=0.02")
    results = SweepResults.read(own.project.sweeps / "sweep" / "sweep_results.json", "sweep")
    assert [trial.state for trial in results.trials] == ["complete"]
    trial, plugin = Project("W", results.trials[0].project), own.project.root / "my_parts.py"
    plugin.rename(plugin.with_suffix(".away"))
    try:
        result = own("-m", "evaluate", "-p", "W", trial.name)
    finally:
        plugin.with_suffix(".away").rename(plugin)
    assert result.returncode == 0, result.stderr


def test_a_project_is_loaded_in_python(own: Run) -> None:
    code = (
        "import phaze_ee\n"
        "jets = next(iter(phaze_ee.read_jets('W/own', ['sample_jets/test/HToBB_000.root'], batch_size=20))).inputs\n"
        "tagger = phaze_ee.load('W/own')\n"
        "print(phaze_ee.Engine(tagger, phaze_ee.load_policy('W/own'))(jets).logits_NK.isfinite().all().item())\n"
    )
    result = own.python(code)
    assert (result.stdout, result.returncode) == ("True\n", 0), result.stderr


def test_a_checkpoint_alone_needs_the_plugin_from_its_user(own: Run, tmp_path: Path) -> None:
    model, plugin = own.project.best_model, own.project.root / "my_parts.py"
    with nothing_registered():
        with pytest.raises(CheckpointError) as caught:
            phaze_ee.load(model)
        text = str(caught.value)
        assert text.startswith(f"{model} needs the exit_head 'max', which is unknown here; ")
        assert f"comes from {plugin}: if you trust this file, name it in c.plugins" in text
        assert phaze_ee.load(model, plugins=[plugin]).head_names == ("max", "max")
    copy = tmp_path / "copy.py"
    copy.write_bytes(plugin.read_bytes())
    with nothing_registered():
        import_file(copy)
        assert phaze_ee.load(model).head_names == ("max", "max")


def test_a_plugin_that_has_changed_is_refused_without_trust(own: Run, tmp_path: Path) -> None:
    changed = tmp_path / "my_parts.py"
    changed.write_text(parts_file() + "\n# another version\n", encoding="utf-8")
    with nothing_registered():
        with pytest.raises(CheckpointError, match="made with another version of the exit_head 'max'") as caught:
            phaze_ee.load(own.project.best_model, plugins=[changed])
        assert str(changed) in str(caught.value)
        assert str(own.project.root / "my_parts.py") in str(caught.value)
        assert phaze_ee.load(own.project.best_model, plugins=[changed], trust=True).link.name == "average"


def test_a_configuration_that_registers_parts_itself(tmp_path_factory: pytest.TempPathFactory) -> None:
    choice = chosen("c.exit_head = 'max'", "c.exit_loss_strategy = 'focal_detached'", "c.exit_score = 'largest_logit'")
    text = parts_file() + "\n\ndef set_config(c):\n" + JETS + SETTINGS + choice
    run = make_run(tmp_path_factory, text, {})
    run.succeed("chain", "-o", "train_calibrate_predict", *PREDICT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHAZE_EE_WORKSPACES", str(run.workspaces))
        (record,) = torch.load(run.project.best_model, weights_only=True)["plugins"]
        assert record["path"] == str(run.project.config)
        assert record["sha256"] == hashlib.sha256(text.encode()).hexdigest()
        # Options may change after the training, classes may not.
        run.project.config.write_text(text + chosen("c.epsilon = 0.1"), encoding="utf-8")
    run.succeed("predict", *PREDICT, "--workers", "2", "--overwrite")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHAZE_EE_WORKSPACES", str(run.workspaces))
        run.project.config.write_text(text.replace('pool("max")', 'pool("mean")'), encoding="utf-8")
        refused = run("-m", "evaluate", "-p", "W", "own")
    assert refused.returncode == 2
    assert "was made with another version of the exit_head 'max'" in refused.stderr


def test_a_network_of_ones_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    config = shown('c.plugins = ["my_network.py"]') + JETS + SETTINGS + chosen("c.exit_stages = ['input', 0]")
    run = make_run(tmp_path_factory, config, {"my_network.py": shown("class DeepSets(Backbone")})
    run.succeed("chain", "-o", "train_evaluate_benchmark")
    loaded = run.python("import phaze_ee; print(phaze_ee.load('W/own').backbone.stage_channels)")
    assert loaded.stdout == "(16, 24)\n", loaded.stderr


def test_the_contract_as_it_is_shown(tmp_path: Path) -> None:
    network = tmp_path / "my_network.py"
    network.write_text(shown("class DeepSets(Backbone"), encoding="utf-8")
    with nothing_registered():
        namespace: dict[str, Any] = {**vars(import_file(network)), "BackboneContract": BackboneContract}
        exec(shown("(BackboneContract)"), namespace)
        contract: BackboneContract = namespace["TestDeepSets"]()
        for counts in LENGTHS.values():
            contract.test_full_model_equals_the_reference(counts)
        plain = [name for name in dir(contract) if name.startswith("test_") and "reference" not in name]
        assert len(plain) > 8
        for name in plain:
            test = getattr(contract, name)
            test(*[tmp_path for fixture in inspect.signature(test).parameters if fixture == "tmp_path"])


def test_the_configuration_of_a_network_file(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text(shown("c.train_files ="), encoding="utf-8")
    assert load_options(tmp_path / "config.py").network_options == {"num_layers": 4}
