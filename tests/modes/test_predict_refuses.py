"""Mode predict and faults: no NaN goes out, changed and damaged files are noticed, nothing half-written stays."""

import os
import socket
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from distributed import LocalCluster

from phaze_ee.cli import main
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.modes import predict as predict_mode
from phaze_ee.modes.console import say_in_columns
from phaze_ee.prediction import job
from phaze_ee.workspace import Project
from tests.end_to_end.command import fails
from tests.modes.exit_policies import write_policy
from tests.modes.predicting import columns_of, notes
from tests.modes.two_class_project import JETS, make_project, save_best_model

Capture = pytest.CaptureFixture[str]
PREDICT = ("-m", "predict", "-p", "Tops", "small")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    monkeypatch.setattr(predict_mode, "EVALUATION_ROWS", 15)
    project = make_project(tmp_path)
    save_best_model(project)
    return project


def write_parquet(path: Path, observer: Any, huge: int | None = None) -> Path:
    """Write jets of 12 particles; jet ``huge`` has inputs that single precision just holds."""
    values = np.random.default_rng(0).normal(size=(3, JETS, 12)).astype(np.float32)
    if huge is not None:
        values[:, huge] = 3e38 * (-1) ** np.arange(12)
    columns: dict[str, Any] = {name: list(own) for name, own in zip(("p_eta", "p_phi", "p_pt"), values, strict=True)}
    pyarrow.parquet.write_table(pyarrow.table({**columns, "jet_id": observer}), path)
    return path


def test_an_answer_that_is_not_finite(project: Project, tmp_path: Path, capsys: Capture) -> None:
    path = write_parquet(tmp_path / "huge.parquet", np.arange(JETS), huge=20)
    text = fails(capsys, 1, *PREDICT, "--files", str(path))
    assert text.startswith(f"{path}: the network's answer is not finite for 1 of the jets in rows ")
    assert "first for row 20;" in text
    assert not list(project.predictions.iterdir())


def test_what_is_written_before_an_error_is_said(project: Project, tmp_path: Path, capsys: Capture) -> None:
    good, bad = tmp_path / "a_good.parquet", tmp_path / "b_huge.parquet"
    write_parquet(good, np.arange(JETS))
    write_parquet(bad, np.arange(JETS), huge=20)
    assert main([*PREDICT, "--files", str(tmp_path / "*.parquet")]) == 1
    printed = capsys.readouterr()
    assert "Note: predictions of 1 of 2 files are in" in " ".join(printed.out.split())
    assert "does the others, when the cause of the error is mended or its file left out" in " ".join(
        printed.out.split()
    )
    assert f"{bad}: the network's answer is not finite" in printed.err
    assert [path.name for path in project.predictions.iterdir()] == ["a_good.root"]


@pytest.mark.parametrize("parallel", [False, True])
def test_a_bad_file_does_not_stop_the_others(project: Project, tmp_path: Path, capsys: Capture, parallel: bool) -> None:
    good = write_parquet(tmp_path / "c_good.parquet", np.arange(JETS)).read_bytes()
    (tmp_path / "a_text.parquet").write_text("no jets")
    (tmp_path / "b_cut.parquet").write_bytes(good[: len(good) // 2])
    command = (*PREDICT, "--files", str(tmp_path / "*.parquet"))
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=":0")
        if parallel
        else nullcontext() as cluster
    ):
        assert main([*command, *(["--scheduler", cluster.scheduler_address] if cluster else [])]) == 2
    printed = capsys.readouterr()
    out = notes(printed.out)
    assert "2 of 3 files cannot be used; the others are done. Mend them, or leave them out" in out
    assert all(f"Not predicted: cannot read {tmp_path / name}" in out for name in ("a_text.parquet", "b_cut.parquet"))
    assert "error: 2 of 3 files cannot be used; the first: cannot read" in printed.err
    assert printed.err.count("\n") == 1
    assert [path.name for path in project.predictions.iterdir()] == ["c_good.root"]
    (tmp_path / "a_text.parquet").unlink()
    assert fails(capsys, 2, *command).startswith(f"cannot read {tmp_path / 'b_cut.parquet'}")
    (tmp_path / "c_good.parquet").unlink()
    assert fails(capsys, 2, *command).startswith(f"cannot read {tmp_path / 'b_cut.parquet'}")  # no other file


def test_a_bad_file_leaves_the_report_of_drift(project: Project, tmp_path: Path, capsys: Capture) -> None:
    write_policy(project, ThresholdPolicy("confidence", [0.5, 0.5]))
    write_parquet(tmp_path / "good.parquet", np.arange(JETS))
    (tmp_path / "bad.parquet").write_text("no jets")
    command = [*PREDICT, "--monitor", "--files", str(tmp_path / "*.parquet")]
    assert main(command) == 2
    assert "drift.json is as before: the files of a command are added together" in notes(capsys.readouterr().out)
    assert not (project.predictions / "drift.json").exists()
    (tmp_path / "bad.parquet").unlink()
    assert main(command) == 0
    assert (project.predictions / "drift.json").exists()


def test_lines_of_text_end_without_spaces(capsys: Capture) -> None:
    say_in_columns("word " * 50 + "[a] :b: \n\n  end")
    lines = capsys.readouterr().out.split("\n")
    assert [line.rstrip() for line in lines] == lines
    assert max(map(len, lines)) <= 80
    assert lines[-4:] == [lines[-4], "", "  end", ""]
    say_in_columns(f"a file {'/long' * 20}.root of some jets")
    assert f"\n{'/long' * 20}.root\n" in capsys.readouterr().out


@pytest.mark.parametrize("flags", ["", " --ood FILES", " -o evaluate_plot", " --seeds 3"])
def test_a_command_in_a_text_stays_on_one_line(capsys: Capture, flags: str) -> None:
    command = f"phaze_ee -m chain -p Workspace project{flags}"
    for before in range(0, 80, 7):
        say_in_columns(f"{'x' * before} run {command} and look at the words that follow in the lines after the command")
        lines = capsys.readouterr().out.split("\n")
        assert sum(command in line for line in lines) == 1
        assert max(map(len, lines)) <= 80


def test_a_model_whose_answers_are_not_finite(project: Project, capsys: Capture) -> None:
    content = torch.load(project.best_model, weights_only=True)
    bias = content["state_dict"]["backbone.mod.edge_convs.1.bns.1.bias"]
    for value, status, message in (
        (3e38, 1, "first for row 0;"),
        (torch.nan, 2, "weights that are not finite: backbone.mod.edge_convs.1.bns.1.bias holds NaN or infinity; its"),
    ):
        bias.fill_(value)
        torch.save(content, project.best_model)
        assert message in fails(capsys, status, *PREDICT)
        assert not list(project.predictions.iterdir())


def test_a_file_that_changes_at_the_end(
    project: Project, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = job._FileRun.answer

    def then_touch(self: Any, rows: Any, events: Any) -> Any:
        os.utime(tmp_path / "val.root", (1, 1))
        return answer(self, rows, events)

    monkeypatch.setattr(job._FileRun, "answer", then_touch)
    assert fails(capsys, 2, *PREDICT).startswith(f"{tmp_path / 'val.root'} changed while it was in use")
    assert not list(project.predictions.iterdir())


@pytest.mark.parametrize("suffix", ["root", "parquet"])
def test_kept_predictions_are_checked(project: Project, capsys: Capture, suffix: str) -> None:
    command = (*PREDICT, "--format", suffix)
    assert main(command) == 0
    assert main(command) == 0
    path = project.predictions / f"val.{suffix}"
    whole, damaged, numbers = path.read_bytes(), 0, columns_of(path)
    for place in np.linspace(0, len(whole) - 1, 40, dtype=int):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        capsys.readouterr()
        status, error = main(command), capsys.readouterr().err
        if status == 0:
            np.testing.assert_equal(columns_of(path), numbers)
            continue
        damaged += 1
        assert status == 2
        assert error.startswith(f"phaze_ee: error: {path} exists and ")
        assert "--overwrite" in error
    assert damaged, "most bytes of a small file are names, padding and copies"
    assert main([*command, "--overwrite"]) == 0
    assert main(command) == 0


def test_what_a_killed_run_left_is_removed(project: Project) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for folder in (project.predictions, project.results):
        folder.mkdir(parents=True)
        for pid in (dead.pid, os.getpid()):
            (folder / f".val.{socket.gethostname()}.{pid}.tmp0123abcd.root").touch()
    assert main(PREDICT) == 0
    assert main(["-m", "evaluate", "-p", "Tops", "small"]) == 0
    for folder in (project.predictions, project.results):
        assert [path.name.split(".")[-3] for path in folder.glob(".*")] == [str(os.getpid())]


OBSERVERS: dict[str, tuple[Any, str | None]] = {
    "float16": (np.arange(JETS, dtype=np.float16), None),
    "boolean": (np.arange(JETS) % 2 == 0, None),
    "date": (np.arange(JETS).astype("datetime64[s]"), "datetime64"),
    "text": (["abc"] * JETS, "string"),
    "bytes": ([b"abc"] * JETS, "bytes"),
    "record": ([{"a": 1}] * JETS, "not one number per jet"),
    "list": ([[1, 2]] * JETS, "not one number per jet"),
}


@pytest.mark.parametrize("name", OBSERVERS)
@pytest.mark.parametrize("suffix", ["root", "parquet"])
def test_observers_of_every_type(project: Project, tmp_path: Path, capsys: Capture, name: str, suffix: str) -> None:
    values, problem = OBSERVERS[name]
    path = write_parquet(tmp_path / "jets.parquet", values)
    command = (*PREDICT, "--files", str(path), "--format", suffix)
    if problem is None:
        assert main(command) == 0
        np.testing.assert_array_equal(columns_of(project.predictions / f"jets.{suffix}")["jet_id"], values)
    else:
        text = fails(capsys, 2, *command)
        assert f"{path}: observer jet_id" in text
        assert problem in text
        assert not list(project.predictions.iterdir())
