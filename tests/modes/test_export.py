"""Mode export: what it writes and says, and what it refuses."""

import json
import sys
from math import inf
from pathlib import Path

import onnx
import pytest

import phaze_ee
from phaze_ee import cli
from phaze_ee.exits.policy_file import ExitPolicyFile
from phaze_ee.exits.safer import SaferPolicy
from phaze_ee.export.judged import judged_lines
from phaze_ee.results.policy import DynamicResults, RelativeEfficiency
from phaze_ee.workspace import Project
from tests.modes.exit_policies import write_policy
from tests.modes.two_class_project import make_project, save_best_model

COMMAND = ("-m", "export", "-p", "Tops", "small")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    made = make_project(tmp_path)
    save_best_model(made)
    return made


def texts(folder: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(str(folder / "model.onnx")).metadata_props}


def test_the_policy_of_the_project_is_in_the_file(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    write_policy(project, phaze_ee.ThresholdPolicy("margin", [0.05, 0.04]))
    assert cli.main(COMMAND) == 0
    output = capsys.readouterr().out
    assert "any number of jets per call" in output
    assert "jets, the same exits as the tagger, probabilities within" in output
    assert f"Written: {project.export}" in output
    assert json.loads(texts(project.export)["thresholds"]) == [0.05, 0.04]


def test_a_moved_policy_is_exported_and_an_earlier_card_is_noticed(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    write_policy(project, phaze_ee.ThresholdPolicy("margin", [0.05, 0.04]))
    file = ExitPolicyFile.read(project.exit_policy, made_by="calibrate")
    safer = [SaferPolicy(score=file.score, thresholds=own, risks=[], realised={}) for own in ([0.06, 0.05], [inf, inf])]
    file = file.model_copy(update={"safer": safer})
    for step, thresholds in ((0, [0.05, 0.04]), (1, [0.06, 0.05]), (2, [inf, inf])):
        file = file.moved(step, "default")
        file.write(project.exit_policy)
        assert cli.main(("-m", "report", "-p", "Tops", "small")) == 0
        assert ("the model card was exported with another policy" in capsys.readouterr().out) is (step > 0)
        assert cli.main(COMMAND) == 0
        assert json.loads(texts(project.export)["thresholds"]) == thresholds
        statement = texts(project.export)["promise"]
        assert statement == "nothing is promised" + (f"; {file.move}" if step else "")
        assert cli.main(("-m", "report", "-p", "Tops", "small")) == 0
        assert "model card" not in capsys.readouterr().out
    assert file.move == "moved 2 of 2 steps from policy default to the full model, which loses no jet"


def test_the_card_has_what_evaluate_found_for_this_policy(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    write_policy(project, phaze_ee.ThresholdPolicy("margin", [0.05, 0.04]))
    assert cli.main(("-m", "evaluate", "-p", "Tops", "small")) == 0
    assert cli.main(COMMAND) == 0
    assert "no figures of test jets" not in capsys.readouterr().out
    judged = DynamicResults.read(project.dynamic_results, made_by="evaluate")
    card = (project.export / "card.md").read_text()
    assert f"- accuracy: {100 * judged.policy.accuracy:.2f} ± {100 * judged.policy.accuracy_error:.2f} %" in card
    assert f"{100 * -judged.policy.accuracy_drop:.2f} ± " in card
    kept = RelativeEfficiency(
        sample="label_top", kept="above the cut", observable="jet_pt", edges=[500, 600, 800], full_model=[1200, 0],
        both=[1188, 0], added=[0, 0], efficiency=[0.99, None], lower=[0.986, None], upper=[0.993, None],
        ratio=[0.99, None], ratio_error=[0.003, None],
    )  # fmt: skip
    lines = list(judged_lines(judged.model_copy(update={"efficiencies": [kept]})))
    assert "| 500 to 600 | 1,200 | 99.00 (+0.30 −0.40) % |" in lines
    assert "| 600 to 800 | 0 | – |" in lines

    write_policy(project, phaze_ee.ThresholdPolicy("margin", [0.5, 0.4]))
    assert cli.main(COMMAND) == 0
    assert (
        "card.md has no figures of test jets; to add them, export again after: phaze_ee -m evaluate -p Tops small"
        in " ".join(capsys.readouterr().out.split())
    )
    assert "On test jets" not in (project.export / "card.md").read_text()


def test_a_named_policy_and_one_jet(project: Project, tmp_path: Path) -> None:
    write_policy(project, phaze_ee.ThresholdPolicy("margin", [0.5, 0.4]))
    project.policies.mkdir()
    project.exit_policy.rename(project.policy("tight"))
    command = (*COMMAND, "--policy", "tight", "--one-jet", "--opset", "18", "--output", str(tmp_path / "out"))
    assert cli.main(command) == 0
    assert json.loads(texts(tmp_path / "out")["thresholds"]) == [0.5, 0.4]
    model = onnx.load(str(tmp_path / "out" / "model.onnx"))
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    assert model.opset_import[0].version == 18


def test_without_a_policy_every_jet_gets_the_full_model(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(COMMAND) == 0
    assert "no exit policy yet" in capsys.readouterr().out
    write_policy(project, phaze_ee.ThresholdPolicy("margin", [0.05, 0.04]))
    assert cli.main((*COMMAND, "--no-policy")) == 0
    assert json.loads(texts(project.export)["thresholds"]) is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--opset", "99"), "opset 99 is unknown to export; choose from 15 to 20"),
        (("--policy", "loose"), "has no policy 'loose' (it has: none); mode 'calibrate' makes one"),
        (("--policy", "loose", "--no-policy"), "--policy and --no-policy exclude each other"),
    ],
)
def test_wrong_flags_are_one_line(
    project: Project, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], message: str
) -> None:
    assert cli.main((*COMMAND, *flags)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not project.export.exists()


def test_a_file_of_the_other_kind_is_not_replaced_in_silence(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main((*COMMAND, "--no-policy")) == 0
    assert "replaces" not in capsys.readouterr().out
    assert cli.main((*COMMAND, "--no-policy", "--one-jet")) == 0
    assert "it replaces a file for any number of jets per call" in " ".join(capsys.readouterr().out.split())
    assert cli.main((*COMMAND, "--no-policy", "--one-jet")) == 0
    assert "replaces" not in capsys.readouterr().out


def test_a_policy_of_another_model_is_refused(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    write_policy(project, phaze_ee.ThresholdPolicy("margin", [0.05, 0.04]))
    save_best_model(project, seed=5)
    assert cli.main(COMMAND) == 2
    assert "was calibrated for another model" in capsys.readouterr().err


def test_without_onnx_the_message_says_how_to_install_it(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert cli.main(COMMAND) == 2
    assert 'pip install ".[onnx]"' in capsys.readouterr().err
