"""The main job on the bundled sample jets, through the real command."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from phaze_ee.cli import main
from phaze_ee.config.template import render_demo
from phaze_ee.models.checkpoint import load_checkpoint
from phaze_ee.modes import demo, plot
from phaze_ee.modes.new_project import create_project
from phaze_ee.modes.request import Request
from phaze_ee.workspace import Project
from tests.end_to_end.command import SMALL, digest, edit
from tests.end_to_end.conftest import Chained

EXITS = ["exit_0", "exit_1", "full_model"]
TEST_JETS = 1200
SIGNATURES = {".png": b"\x89PNG\r\n\x1a\n", ".pdf": b"%PDF-"}


def content(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def check_plots(folder: Path, names: set[str]) -> None:
    """Every plot is there as PNG and as PDF, and is more than an empty canvas."""
    for name in names:
        for suffix, signature in SIGNATURES.items():
            written = (folder / f"{name}{suffix}").read_bytes()
            assert written.startswith(signature)
            assert len(written) > 5_000


def test_both_commands_succeed(chained: Chained) -> None:
    assert (chained.created.returncode, chained.created.stderr) == (0, "")
    assert chained.chained.returncode == 0, chained.chained.stderr
    assert "Traceback" not in chained.chained.stderr


def test_new_project_makes_the_folders_of_the_contract_and_says_what_is_next(first: Project, chained: Chained) -> None:
    for folder in ("config", "data", "output/logs", "output/models", "output/plots", "output/results"):
        assert (first.root / folder).is_dir()
    assert str(first.config) in chained.created.stdout
    assert "phaze_ee -m chain -p JetClass first" in chained.created.stdout


def test_the_chain_shows_progress_and_tables(first: Project, chained: Chained) -> None:
    printed = chained.chained.stdout
    for title in ("1/4 train", "2/4 evaluate", "3/4 benchmark", "4/4 plot", "epoch   1/1"):
        assert title in printed
    assert "batches; use_amp is off: it needs CUDA" in printed
    assert printed.index("1/4 train") < printed.index("epoch   1/1") < printed.index("2/4 evaluate")


def test_every_file_of_the_contract_is_there(first: Project) -> None:
    assert first.best_model.is_file()
    assert (first.models / "latest_model.pt").is_file()
    assert list((first.logs / "train").glob("events.out.tfevents.*"))
    assert first.training_history.is_file()
    assert not [path for path in first.root.rglob(".*") if path.is_file()]  # nothing temporary is left


def test_both_results_have_the_contracts_keys_and_agree(first: Project) -> None:
    evaluation, costs = content(first.evaluation_results), content(first.benchmark_results)
    for results in (evaluation, costs):
        assert [key for key in results if isinstance(results[key], dict) and "accuracy" in results[key]] == EXITS
    assert evaluation["jets"] == TEST_JETS
    assert set(evaluation["jets_per_class"].values()) == {TEST_JETS // 10}
    for name in EXITS:
        assert set(costs[name]) >= {"flops", "flops_str", "params", "params_str", "accuracy", "roc_auc"}
        assert costs[name]["accuracy"] == evaluation[name]["accuracy"]
        assert costs[name]["roc_auc"] == evaluation[name]["roc_auc"]
        right = sum(row[index] for index, row in enumerate(evaluation[name]["confusion_matrix"]))
        assert evaluation[name]["accuracy"] == pytest.approx(right / TEST_JETS)
        assert 0.4 < evaluation[name]["roc_auc"] < 1
        assert len(evaluation[name]["rejections"]) == 9
    assert evaluation["model_hash"] == costs["model_hash"]
    for count in ("flops", "params", "macs"):
        assert costs["exit_0"][count] < costs["exit_1"][count] < costs["with_exits"][count]
        assert 0 < costs["full_model"][count] < costs["with_exits"][count]  # as published: without exit heads


def test_the_checkpoint_holds_all_that_made_it(first: Project) -> None:
    checkpoint = load_checkpoint(first.best_model)
    assert {name: checkpoint.options[name] for name in ("epochs", "device", "train_files")} == {
        name: SMALL[name] for name in ("epochs", "device", "train_files")
    }
    assert checkpoint.options["seed"] == 1
    assert torch.__version__.startswith(checkpoint.versions["torch"])  # which may name its CUDA as well
    assert len(checkpoint.data_hash) == 64
    history = content(first.training_history)["epochs"]
    assert checkpoint.metrics["val/accuracy/full_model"] == pytest.approx(history[0]["val_accuracy"][-1])


def test_the_plots_are_there_in_both_formats(first: Project) -> None:
    performance = {
        "flops_vs_accuracy",
        "params_vs_accuracy",
        "flops_vs_auc",
        "params_vs_auc",
        "confusion_matrix",
        "roc",
    }
    check_plots(first.plots / "performance", performance)
    check_plots(first.plots / "loss", {"loss_curves", "accuracy_curves"})


def test_evaluating_again_gives_the_same_and_touches_nothing_else(first: Project) -> None:
    before = digest(first.root)
    assert main(["-m", "evaluate", "-p", "JetClass", "first"]) == 0
    assert digest(first.root) == before


def test_a_second_project_and_the_comparison(first: Project, capsys: pytest.CaptureFixture[str]) -> None:
    second = Project("JetClass", "second")
    assert main(["-m", "new_project", "-p", "JetClass", "second"]) == 0
    edit(second, **SMALL, exit_loss_strategy="target_flow", num_workers=2, tensorboard=False)
    assert main(["-m", "chain", "-p", "JetClass", "second", "-o", "train_evaluate_benchmark"]) == 0
    before = digest(first.root)
    capsys.readouterr()
    assert main(["-m", "compare", "-p", "JetClass", "dummy", "--projects", "first", "second"]) == 0
    assert digest(first.root) == before
    printed = capsys.readouterr().out
    assert "first" in printed
    assert "second" in printed
    check_plots(first.comparisons, {"comparison_flops_vs_accuracy", "comparison_params_vs_accuracy"})


def test_the_demo_repeats_the_run_and_ends_with_the_table(
    first: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same configuration and seed as the first project, in this process instead of one of its own."""

    def create(project: Project, render: Callable[[str], str]) -> Project:
        assert render is render_demo
        edit(create_project(project), **SMALL)
        return project

    def draw(request: Request) -> None:  # the figures are those of test_the_plots_are_there_in_both_formats
        (project.plots / "figure.png").touch()

    project = Project("demo", "sample_jets_1")
    monkeypatch.setattr(demo, "create_project", create)
    monkeypatch.setattr(plot, "run", draw)
    assert main(["-m", "demo"]) == 0
    once, twice = (load_checkpoint(own.best_model).tagger.state_dict() for own in (first, project))
    assert [name for name in once if not torch.equal(once[name], twice[name])] == []
    score = content(project.benchmark_results)["full_model"]["accuracy"]
    ending = capsys.readouterr().out.split("done")[-1]
    for shown in (f"{score:.4f}", project.root, "phaze_ee -m show -p demo sample_jets_1"):
        assert str(shown) in ending
