"""Without validation files, the last rows of each training file validate and do not train, as in weaver."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from weaver.utils.data.fileio import _read_files

from phaze_ee.cli import main
from phaze_ee.data.loaders import training_loader
from phaze_ee.data.selections import rows_hash
from phaze_ee.errors import DataError, UsageError
from phaze_ee.modes import calibration_jets, convert, evaluate, jets
from phaze_ee.modes.session import Session
from phaze_ee.results.evaluation import EvaluationResults
from phaze_ee.types import JetBatch
from phaze_ee.workspace import Project
from tests.modes.two_class_project import DATA_CONFIG, make_project, request, save_best_model, write_jets

QUICK = ("c.epochs = 1", "c.zero_epochs = 0", "c.tensorboard = False", 'c.background = "is_qcd"', "c.val_files = []")
SIZES = (40, 1, 57)  # the only row of a file validates


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    made = make_project(tmp_path, *QUICK, f"c.train_files = [{str(tmp_path / 'train')!r} + '/*.root']")
    (tmp_path / "train").mkdir()
    for number, size in enumerate(SIZES):
        path = tmp_path / "train" / f"{number}.root"
        write_jets(path, np.arange(size) % 2)
        _number(path, 100 * number)
    return made


def _number(path: Path, first: int) -> None:
    """Give the jets of a file numbers that no other file has."""
    with uproot.open(path) as file:
        columns = file["Events"].arrays(library="np")
    columns["jet_id"] = columns["jet_id"] + first
    with uproot.recreate(path) as file:
        file.mktree("Events", {name: (column.dtype, column.shape[1:]) for name, column in columns.items()})
        file["Events"].extend(columns)


def session(mode: str = "train", **flags: Any) -> Session:
    return Session.open(replace(request(mode), flags=flags))


def ids(batches: Iterable[JetBatch]) -> list[int]:
    return [int(number) for batch in batches for number in batch.observers["jet_id"]]


def weaver_ids(own: Session, start: float, stop: float) -> list[int]:
    """Return the jets that weaver reads of this part of the files; it reads one row even of an empty part."""
    files = [str(path) for path, size in zip(own.files("train_files"), SIZES, strict=True) if size > 1]
    found = _read_files(files, ["jet_id"], (start, stop), treename="Events")
    return [int(number) for number in found["jet_id"]]


def training_ids(own: Session) -> list[int]:
    schema = jets.training_schema(own, own.schema)
    monitored = schema.with_options({"observers": None, "monitor_variables": ["jet_id"]})
    return ids(training_loader(monitored, own.files("train_files"), batch_size=16, num_workers=0, seed=1))


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("share", [0.2, 0.1, 0.35, 0.5, 0.9])
def test_the_rows_are_those_of_weaver(share: float) -> None:
    own = session(validation_share=share)
    validation = ids(jets.validation_jets(own, own.schema))
    assert sorted(training_ids(own)) == weaver_ids(own, 0, round(1 - share, 12))
    assert [number for number in validation if number != 100] == weaver_ids(own, round(1 - share, 12), 1)
    assert {*training_ids(own), *validation} == {
        100 * file + row for file, size in enumerate(SIZES) for row in range(size)
    }
    assert not {*training_ids(own)} & {*validation}


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("cached", [False, True])
def test_each_mode_reads_its_own_rows(cached: bool) -> None:
    flags: dict[str, Any] = {"use_cache": "always" if cached else "never"}
    if cached:
        convert.run(session("convert"))
    own = session(**flags)
    last = {*range(32, 40), 100, *range(200 + 45, 200 + 57)}
    choosing = ids(jets.choosing_jets(own, own.schema))
    save_best_model(own.project, with_options=True)
    files, calibration, notes = calibration_jets.calibration_batches(session("calibrate", **flags))
    assert files == own.files("train_files")
    assert not notes
    assert {*choosing, *ids(calibration)} == last
    assert not {*choosing} & {*ids(calibration)}
    evaluate.run(session("evaluate", **flags))
    assert EvaluationResults.read(own.project.evaluation_results, made_by="evaluate").jets == len(last)


def test_inputs_are_scaled_and_weighted_by_the_rows_that_train(project: Project, tmp_path: Path) -> None:
    text = DATA_CONFIG.replace("method: manual", "method: auto, data_fraction: 1")
    text = text.replace("new_variables: {", "new_variables: {other_id: jet_id, ")
    weights = """
weights:
  use_precomputed_weights: false
  reweight_method: flat
  reweight_vars: {jet_id: [-1, 20, 1000], other_id: [-1, 300]}
  reweight_classes: [is_qcd, is_top]
  class_weights: [1, 1]
"""
    (tmp_path / "two_classes.yaml").write_text(text + weights, encoding="utf-8")
    own = session()
    found = jets.resolved_schema(own, None)
    other = tmp_path / "first_rows"
    other.mkdir()
    for path in own.files("train_files"):
        with uproot.open(path) as file:
            columns = file["Events"].arrays(library="np")
        kept = {name: column[: int(0.8 * len(column))] for name, column in columns.items()}
        with uproot.recreate(other / path.name) as file:
            file.mktree("Events", {name: (column.dtype, column.shape[1:]) for name, column in kept.items()})
            file["Events"].extend(kept)
    assert found == own.schema.resolve(sorted(other.glob("*.root")))
    assert found != own.schema.resolve(own.files("train_files"))
    assert found.part == own.schema.part, "the model reads whole files elsewhere"


@pytest.mark.usefixtures("project")
def test_results_on_other_rows_have_other_hashes() -> None:
    own = session()
    hashes = {
        rows_hash(own.files("train_files"), jets.judging_schema(one, own.schema, option))
        for one in (own, session(validation_share=0.3))
        for option in ("val_files", "test_files")
    }
    assert len(hashes) == 3  # whole files are the same jets for both


@pytest.mark.parametrize(
    ("trained", "now", "words"),
    [
        ({"validation_share": 0.2}, {"validation_share": 0.3}, "with c.validation_share = 0.2"),
        ({"val_files": ["val.root"]}, {}, "with c.val_files set"),
    ],
)
def test_jets_that_the_model_has_learned_do_not_judge_it(
    project: Project, trained: dict[str, Any], now: dict[str, Any], words: str
) -> None:
    save_best_model(project, 3, 1, with_options=True, **trained)
    for mode in (calibration_jets.calibration_batches, evaluate.run):
        with pytest.raises(UsageError, match=f"was trained {words}, so it may have learned these jets"):
            mode(session("evaluate", **now))


def test_training_says_which_rows_validate_and_which_class_they_lack(
    project: Project, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for path in (tmp_path / "train").glob("*.root"):
        path.unlink()
    write_jets(tmp_path / "train" / "sorted.root", np.arange(40) >= 20)
    assert main(["-m", "train", "-p", "Tops", "small"]) == 0
    out, err = capfd.readouterr()
    shown = " ".join(out.split())
    assert "sorted.root, last 20 % of rows" in shown
    assert "Warning: these rows hold no jets of is_qcd, so no figure" in shown
    assert not err


def test_training_says_which_class_the_rows_that_train_lack(
    project: Project, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in (tmp_path / "train").glob("*.root"):
        path.unlink()
    write_jets(tmp_path / "train" / "sorted.root", np.arange(40) >= 35)
    assert main(["-m", "train", "-p", "Tops", "small"]) == 0
    assert "no jets of is_top from 0 % to 80 % of their rows (c.validation_share) (jets: is_qcd 32)" in caplog.text
    assert "if their other rows do, give c.val_files" in caplog.text


@pytest.mark.usefixtures("project")
def test_files_without_rows_that_train_are_named(tmp_path: Path) -> None:
    own = session(train_files=[str(tmp_path / "train" / "1.root")])
    with pytest.raises(DataError, match=r"no jets in .*1\.root from 0 % to 80 % of their rows \(c\.validation_share\)"):
        training_ids(own)


@pytest.mark.usefixtures("project")
def test_files_that_train_are_named_but_for_their_last_rows(tmp_path: Path) -> None:
    own = [str(tmp_path / "train" / f"{number}.root") for number in range(3)]
    other = str(tmp_path / "val.root")
    assert jets.overlap_with_training(session(), "val_files") == []
    assert jets.overlap_with_training(session(val_files=[other]), "val_files") == []
    assert jets.overlap_with_training(session(test_files=["nowhere.root"]), "test_files") == []
    for files, words in (([own[1], other], "1.root"), ([own[2], own[0], own[1]], "0.root and 2 more")):
        (warning,) = jets.overlap_with_training(session(test_files=files), "test_files")
        assert warning.startswith(f"{tmp_path / 'train'}/{words} in train_files and in test_files: ")
    (warning,) = jets.overlap_with_training(session(val_files=own), "val_files")
    assert "and 2 more in train_files and in val_files" in warning


def test_jets_that_the_model_has_not_learned_judge_it(project: Project, tmp_path: Path) -> None:
    save_best_model(project, 3, 1, with_options=True, validation_share=0.2)
    other = session(val_files=[str(tmp_path / "val.root")])
    assert jets.validation_files(other) == [tmp_path / "val.root"]
    assert jets.validation_files(session()) == session().files("train_files")
    never_trained = session(validation_share=0.3)
    never_trained.__dict__["model"] = replace(session().model, options=None)
    assert jets.validation_files(never_trained) == session().files("train_files")


@pytest.mark.usefixtures("project")
def test_with_calibration_files_all_last_rows_choose_the_epoch(tmp_path: Path) -> None:
    own = session(calibration_files=[str(tmp_path / "val.root")])
    assert ids(jets.choosing_jets(own, own.schema)) == [*range(32, 40), 100, *range(245, 257)]
    assert jets.named(own, "calibration_files") == str(tmp_path / "val.root")
    assert jets.named(own, "val_files") == "3 files, 0.root … 2.root, last 20 % of rows"
