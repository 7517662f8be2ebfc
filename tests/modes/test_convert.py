"""Mode convert, and the modes that read what it made."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from phaze_ee.errors import UsageError
from phaze_ee.modes import calibrate, convert, evaluate, train
from phaze_ee.modes.session import Session
from phaze_ee.results.evaluation import EvaluationResults
from phaze_ee.workspace import Project
from tests.modes.two_class_project import JETS, make_project, request, save_best_model, write_jets


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    return tmp_path


def evaluated(project: Project) -> EvaluationResults:
    evaluate.run(Session.open(request("evaluate")))
    return EvaluationResults.read(project.evaluation_results, made_by="evaluate")


def test_train_and_evaluate_read_the_cache(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = make_project(
        folder, "c.epochs = 1", "c.zero_epochs = 0", "c.tensorboard = False", 'c.background = "is_qcd"'
    )
    convert.run(Session.open(request("convert")))
    printed = capsys.readouterr().out
    assert f"train_files     {JETS}" in printed
    assert max(map(len, printed.splitlines()[:-1])) <= 80
    train.run(Session.open(request("train")))
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Cache: ")]
    assert ["training" in line for line in told] == [True, False]
    from_cache = evaluated(project)
    assert "Cache: " in capsys.readouterr().out
    project.config.write_text(project.config.read_text() + '    c.use_cache = "never"\n')
    assert evaluated(project).exits == from_cache.exits
    assert "Cache: " not in capsys.readouterr().out


def test_calibrate_reads_the_cache(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = f"c.calibration_files = [{str(folder / 'calibration.root')!r}]"
    write_jets(folder / "calibration.root", np.arange(100) % 2)
    make_project(folder, files, 'c.background = "is_qcd"', f"c.cache_folder = {str(folder / 'caches')!r}")
    save_best_model(Project("Tops", "small"))
    convert.run(Session.open(request("convert")))
    assert len(list((folder / "caches").iterdir())) == 3
    capsys.readouterr()
    calibrate.run(Session.open(replace(request("calibrate"), flags={"epsilon": 0.4})))
    assert f"Cache: {folder / 'caches'}" in capsys.readouterr().out


def test_a_stale_cache_is_told_and_may_be_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = make_project(folder, 'c.background = "is_qcd"', 'c.use_cache = "always"')
    save_best_model(project)
    with pytest.raises(UsageError, match=r"has no cache for evaluation of .*val\.root … as they are now"):
        evaluated(project)
    convert.run(Session.open(request("convert")))
    write_jets(folder / "val.root", np.arange(20) % 2)
    with pytest.raises(UsageError, match="phaze_ee -m convert -p Tops small"):
        evaluated(project)
    project.config.write_text(project.config.read_text() + '    c.use_cache = "auto"\n')
    capsys.readouterr()
    evaluated(project)
    assert "has no cache for evaluation of these files as they are now" in capsys.readouterr().out
    convert.run(Session.open(request("convert")))
    assert "Note: caches of other files or of another data config take" in capsys.readouterr().out
