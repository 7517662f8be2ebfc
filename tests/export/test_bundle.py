"""The folder of an exported tagger: complete, as its users read it, and whole or not there."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch

import phaze_ee
from phaze_ee.data.schema import DataSchema
from phaze_ee.errors import RunError, UsageError
from phaze_ee.exits.policies import ExitPolicy
from phaze_ee.export import bundle
from phaze_ee.export.check import Comparison
from phaze_ee.workspace import Project
from tests.modes.exit_policies import write_policy
from tests.modes.two_class_project import make_project, save_best_model

POLICY = phaze_ee.ThresholdPolicy("margin", [0.05, 0.04], [1.0, 2.0, 3.0])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    made = make_project(tmp_path)
    save_best_model(made)
    return made


def exported(project: Project, folder: Path, **settings: object) -> Path:
    files = [project.root.parents[2] / "val.root"]
    return phaze_ee.export_onnx(str(project), folder, files=files, **settings)  # type: ignore[arg-type]


def test_the_folder_has_all_that_goes_with_the_file(project: Project, tmp_path: Path) -> None:
    write_policy(project, POLICY)
    folder = exported(project, tmp_path / "out", licence="CC0")
    assert sorted(path.name for path in folder.iterdir()) == [
        "SHA256SUMS", "card.md", "example.cpp", "example.py", "model.onnx", "preprocess.json",
    ]  # fmt: skip
    lines = [line.split("  ") for line in (folder / "SHA256SUMS").read_text().splitlines()]
    sums = {name: digest for digest, name in lines}
    assert sums == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name != "SHA256SUMS"
    }
    card = (folder / "card.md").read_text()
    assert "licence of the weights: CC0" in card
    assert "score (margin)" in card
    assert str(tmp_path) not in card
    assert "one jet per call, on 40 jets, evenly from" in card
    assert "- with exits: " in card
    assert f"PHAZE-EE {phaze_ee.__version__}: https://github.com/" in card
    assert "arXiv:1902.08570" in card


def test_what_a_user_has_put_beside_the_files_stays(project: Project, tmp_path: Path) -> None:
    folder = exported(project, tmp_path / "out")
    (folder / "README.md").write_text("mine")
    (folder / "empty").touch()
    (folder / "plots" / "deep").mkdir(parents=True)
    (folder / "plots" / "deep" / "a.txt").write_text("also mine")
    (folder / "link").symlink_to("nowhere")
    (folder / "old_example.sh").write_text("of an older version")
    sums = folder / "SHA256SUMS"
    sums.write_text(f"{sums.read_text()}{'0' * 64}  old_example.sh\n")
    write_policy(project, POLICY)
    shown = tmp_path / "shown"
    shown.symlink_to("out")
    exported(project, shown)
    assert shown.is_symlink()
    assert "score (margin)" in (folder / "card.md").read_text()
    assert (folder / "README.md").read_text() == "mine"
    assert (folder / "plots" / "deep" / "a.txt").read_text() == "also mine"
    assert (folder / "empty").is_file()
    assert (folder / "link").is_symlink()
    assert not (folder / "old_example.sh").exists()
    assert "README.md" not in sums.read_text()


def test_a_mount_point_is_refused_before_any_work(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = exported(project, tmp_path / "out")
    monkeypatch.setattr(Path, "is_mount", lambda self: self == folder)
    monkeypatch.setattr(bundle, "write_model", None)
    with pytest.raises(UsageError, match=r"out is a mount point, which cannot be replaced; choose a folder in it"):
        exported(project, folder)


def test_without_jets_or_exits_the_card_has_no_such_cost(project: Project, tmp_path: Path) -> None:
    bare = phaze_ee.export_onnx(project.best_model, tmp_path / "bare")
    assert "ms per jet" not in (bare / "card.md").read_text()
    full = exported(project, tmp_path / "full", policy=None)
    card = (full / "card.md").read_text()
    assert "this file: " in card
    assert "without exits: " not in card


def test_the_file_says_what_it_is(project: Project, tmp_path: Path) -> None:
    write_policy(project, POLICY)
    model = onnx.load(str(exported(project, tmp_path / "out") / "model.onnx"))
    texts = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(texts["classes"]) == ["is_qcd", "is_top"]
    assert json.loads(texts["exits"]) == ["exit_0", "exit_1", "full_model"]
    assert json.loads(texts["thresholds"]) == [0.05, 0.04]
    assert json.loads(texts["temperatures"]) == [1.0, 2.0, 3.0]
    assert texts["promise"] == "nothing is promised"
    assert texts["promise_holds"] == "false"
    assert texts["model_sha256"] == project.model_hash
    assert json.loads(texts["data_config"])["treename"] == "Events"


def test_the_inputs_are_described_as_weaver_does(project: Project, tmp_path: Path) -> None:
    described = json.loads((exported(project, tmp_path / "out") / "preprocess.json").read_text())
    schema = DataSchema.load(tmp_path / "two_classes.yaml")
    schema.weaver.export_json(str(tmp_path / "weaver.json"))
    expected = json.loads((tmp_path / "weaver.json").read_text())
    assert described == {**expected, "input_names": ["pf_points", "pf_features", "pf_mask"]}


def test_inputs_that_the_file_does_not_read_are_left_out(project: Project, tmp_path: Path) -> None:
    """FCCAnalyses asks for the variables of every group that is named."""
    schema = DataSchema.load(tmp_path / "two_classes.yaml")
    bundle.write_preprocessing(schema.weaver, ["pf_features", "pf_mask"], tmp_path / "p.json")
    described = json.loads((tmp_path / "p.json").read_text())
    assert list(described) == ["output_names", "input_names", "pf_features", "pf_mask"]


def test_the_python_example_runs(project: Project, tmp_path: Path) -> None:
    folder = exported(project, tmp_path / "out", one_jet=True)
    command = [sys.executable, str(folder / "example.py")]  # from any folder
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "is_top" in result.stdout


def test_a_policy_of_the_users_own_or_none(project: Project, tmp_path: Path) -> None:
    write_policy(project, POLICY)
    own = phaze_ee.ThresholdPolicy("confidence", [0.6, 0.7])
    for number, policy in enumerate((own, None)):
        folder = exported(project, tmp_path / str(number), policy=policy)
        texts = {entry.key: entry.value for entry in onnx.load(str(folder / "model.onnx")).metadata_props}
        assert json.loads(texts["thresholds"]) == (None if policy is None else [0.6, 0.7])
        assert json.loads(texts["promise"]) is None


def test_a_checkpoint_is_exported_too(project: Project, tmp_path: Path) -> None:
    folder = phaze_ee.export_onnx(project.best_model, tmp_path / "out")  # checked on odd jets of random particles
    assert (folder / "model.onnx").is_file()


def test_an_older_bundle_is_replaced(project: Project, tmp_path: Path) -> None:
    folder = exported(project, tmp_path / "out")
    (folder / "model.onnx").write_bytes(b"old")
    exported(project, folder)
    onnx.load(str(folder / "model.onnx"))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_nothing_is_written_if_the_check_fails(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RunError("the file does not answer as the tagger")

    monkeypatch.setattr(Comparison, "check", fail)
    with pytest.raises(RunError, match="does not answer"):
        exported(project, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_the_older_bundle(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = exported(project, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle, "_checksums", full)
    with pytest.raises(RunError, match=r"cannot write .*out: No space left on device; free space"):
        exported(project, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_folder_with_other_files_is_left_alone(project: Project, tmp_path: Path) -> None:
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter.tex").touch()
    with pytest.raises(UsageError, match="holds other files than an exported tagger"):
        exported(project, folder)
    with pytest.raises(UsageError, match="is a file; choose another"):
        exported(project, folder / "chapter.tex")


def test_a_policy_of_another_kind_is_refused(project: Project, tmp_path: Path) -> None:
    class Own(ExitPolicy):
        def __call__(self, logits_ENK: torch.Tensor) -> torch.Tensor:
            return logits_ENK[-1].amax(dim=-1) > 0

        def check(self, exit_count: int) -> None:
            pass

    with pytest.raises(UsageError, match="a Own cannot be exported: a file decides about each jet by a score"):
        exported(project, tmp_path / "out", policy=Own())
