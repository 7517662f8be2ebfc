"""Which jets each mode reads: selections, those that the configuration adds, parts of files, and jets held out."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phaze_ee.cli import main
from phaze_ee.data.batches import HeldOut
from phaze_ee.data.loaders import training_loader
from phaze_ee.errors import DataError, UsageError
from phaze_ee.models.checkpoint import load_checkpoint
from phaze_ee.modes import convert, jets
from phaze_ee.modes.session import Session
from phaze_ee.modes.start import jet_choice
from phaze_ee.types import JetBatch
from phaze_ee.workspace import Project
from tests.modes.two_class_project import DATA_CONFIG, make_project, request, write_jets

COUNT = 120
QUICK = ("c.epochs = 1", "c.zero_epochs = 0", "c.tensorboard = False", 'c.background = "is_qcd"')
# As in public configurations: training needs a class, tests need none.
SELECTIONS = 'selection: "(jet_id % 5 > 0) & (jet_id > 9)"\ntest_time_selection: jet_id > 19\n'
SELECTED = {number for number in range(COUNT) if number % 5 and number > 9}
TESTED = set(range(20, COUNT))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    return tmp_path


def project(folder: Path, *lines: str, sections: str = SELECTIONS) -> Project:
    made = make_project(folder, *QUICK, *lines)
    (folder / "two_classes.yaml").write_text(DATA_CONFIG + sections, encoding="utf-8")
    write_jets(folder / "val.root", np.arange(COUNT) % 2)
    write_jets(folder / "train.root", np.arange(COUNT) % 2)
    text = made.config.read_text().replace(
        "c.train_files = c.val_files", f"c.train_files = [{str(folder)!r} + '/train.root']\n    c.val_files"
    )
    made.config.write_text(text)
    return made


def session(mode: str = "train", **flags: Any) -> Session:
    return Session.open(replace(request(mode), flags=flags))


def ids(batches: Iterable[JetBatch]) -> list[int]:
    assert all("phaze_ee_place" not in batch.observers for batch in batches)
    return [int(number) for batch in batches for number in batch.observers["jet_id"]]


def calibration_ids(own: Session, trained_with: dict[str, Any] | None = None) -> tuple[list[int], list[str]]:
    schema = jets.calibration_schema(own, own.schema)
    found = own.evaluation_jets(schema, own.files("val_files"))
    held_out, notes = jets.held_out_jets(own, found, own.schema, trained_with)
    return ids(held_out), notes


@pytest.mark.parametrize("cached", [False, True])
def test_validation_and_calibration_select_and_share_the_jets(folder: Path, cached: bool) -> None:
    project(folder, *(['c.use_cache = "always"'] if cached else []))
    if cached:
        convert.run(session("convert"))
    own = session()
    choosing = ids(jets.choosing_jets(own, own.schema))
    kept, notes = calibration_ids(own, own.options.model_dump())
    assert not notes
    assert set(choosing) < SELECTED
    assert set(kept) < TESTED
    assert not set(choosing) & set(kept), "no jet chooses the epoch and the thresholds"
    assert {*choosing, *kept} >= SELECTED & TESTED
    assert 0.4 < len(kept) / len(TESTED) < 0.6
    assert kept == sorted(kept)


@pytest.mark.parametrize("sections", ["", "selection: jet_id > 9\n"])
def test_where_the_selections_agree_the_position_decides_as_in_older_versions(folder: Path, sections: str) -> None:
    project(folder, sections=sections)
    own = session()
    everything = own.evaluation_jets(own.schema, own.files("val_files"))
    older = {"calibration_share": 0.5}
    kept, notes = calibration_ids(own, older)
    assert not notes
    assert kept == ids(HeldOut(everything, 0.5, held_out=True))
    assert ids(jets.choosing_jets(own, own.schema)) == ids(HeldOut(everything, 0.5, held_out=False))


@pytest.mark.parametrize(
    "trained_with",
    [
        {"calibration_share": 0.5},  # by a version whose validation used test_time_selection
        {"calibration_share": 0.3, "extra_selection": None},
    ],
)
def test_a_training_that_held_out_other_jets_is_noted(folder: Path, trained_with: dict[str, Any]) -> None:
    project(folder)
    _, notes = calibration_ids(session("calibrate"), trained_with)
    assert len(notes) == 1
    assert "the training used some of these jets to choose its best epoch" in notes[0]


def test_another_selection_of_tests_is_noted_where_the_position_decided(folder: Path) -> None:
    project(folder, sections="")
    trained_with = session().options.model_dump()
    assert not calibration_ids(session("calibrate"), trained_with)[1]
    kept, notes = calibration_ids(session("calibrate", extra_selection_test="jet_id > 50"), trained_with)
    assert min(kept) > 50
    assert len(notes) == 1


def test_extra_selections_are_those_of_their_purpose(folder: Path) -> None:
    project(folder)
    extra = {
        "extra_selection": "jet_id < 100",
        "extra_selection_train": "jet_id % 2 > 0",
        "extra_selection_val": "jet_id > 30",
        "extra_selection_test": "jet_id < 50",
    }
    own = session(**extra)
    schema = jets.training_schema(own, own.schema)
    assert schema.weaver.selection == ("((jet_id % 5 > 0) & (jet_id > 9)) & (jet_id < 100) & (jet_id % 2 > 0)"), (
        "as weaver joins them"
    )
    monitored = schema.with_options({"observers": None, "monitor_variables": ["jet_id"]})
    found = training_loader(monitored, own.files("train_files"), batch_size=50, num_workers=0, seed=1)
    assert set(ids(found)) == {number for number in SELECTED if number < 100 and number % 2}
    assert set(ids(jets.validation_jets(own, own.schema))) == {number for number in SELECTED if 30 < number < 100}
    tests = jets.testing_schema(own, own.schema)
    assert set(ids(own.evaluation_jets(tests, own.files("val_files")))) == set(range(20, 50))
    assert set(calibration_ids(own)[0]) < set(range(20, 50))


def test_without_selections_an_extra_one_is_not_that_of_other_purposes(folder: Path) -> None:
    project(folder, sections="")
    own = session(extra_selection="jet_id > 50")
    tests = jets.testing_schema(own, own.schema)
    assert tests == own.schema
    assert len(ids(own.evaluation_jets(tests, own.files("val_files")))) == COUNT
    assert set(ids(jets.validation_jets(own, own.schema))) == set(range(51, COUNT))


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("jet_id >", r"c\.extra_selection_val is not Python: "),
        ("__import__('os')", r"c\.extra_selection_val .*__import__"),
        ("jet_id > 3) | (jet_id < 2", r"c\.extra_selection_val is not Python: "),
    ],
)
def test_a_wrong_expression_is_named(folder: Path, expression: str, message: str) -> None:
    project(folder)
    with pytest.raises(DataError, match=message):
        jet_choice(session(extra_selection_val=expression))


def test_an_expression_may_be_trusted(folder: Path) -> None:
    own = project(folder)
    with pytest.raises(DataError, match=r"c\.extra_selection_test .*vectorize"):
        jet_choice(session(extra_selection_test="np.vectorize(np.abs)(jet_id) > 50"))
    own.config.write_text(own.config.read_text() + "    c.trust_expressions = True\n")
    trusting = session(extra_selection_test="np.vectorize(np.abs)(jet_id) > 50")
    schema = jets.testing_schema(trusting, trusting.schema)
    assert set(ids(trusting.evaluation_jets(schema, trusting.files("val_files")))) == set(range(51, COUNT))


@pytest.mark.parametrize("cached", [False, True])
def test_reweighting_uses_the_extra_selection_and_standardisation_does_not(folder: Path, cached: bool) -> None:
    weights = (
        "weights: {use_precomputed_weights: false, reweight_method: flat, reweight_classes: [is_qcd, is_top],\n"
        "  reweight_vars: {jet_id: [0, 60, 1e3], p_one: [0, 2]}}\n"
    )
    project(folder, sections=weights)
    text = (folder / "two_classes.yaml").read_text().replace("method: manual", "method: auto")
    text = text.replace("new_variables: {", 'new_variables: {p_one: "jet_id * 0 + 1", ')
    (folder / "two_classes.yaml").write_text(text)
    flags = {"extra_selection_train": "(jet_id < 60) | is_top"}
    if cached:
        convert.run(session("convert", **flags))
    narrow, wide = session(**flags), session()
    cache = jets.training_cache(narrow)
    assert (cache is not None) == cached
    found, others = jets.resolved_schema(narrow, cache), jets.resolved_schema(wide, None)
    assert found.options["preprocess"] == others.options["preprocess"]
    histogram = np.array(found.options["weights"]["reweight_hists"]["is_qcd"])
    assert histogram[1, 0] == 0 < np.array(others.options["weights"]["reweight_hists"]["is_qcd"])[1, 0]
    assert "selection" not in found.options, "a model reads other jets in other modes"


def test_the_command_line_trains_on_a_part_and_the_model_keeps_the_selections(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = project(folder)
    flags = ["--extra-selection-train", "jet_id < 100", "--data-fraction", "0.5", "--data-fraction-val", "0.3"]
    assert main(["-m", "train", "-p", "Tops", "small", *flags]) == 0
    printed = capsys.readouterr().out
    assert "36 jets, 1 epoch of 3 batches" in printed, "half of the 72 that are selected"
    checkpoint = load_checkpoint(own.best_model)
    assert checkpoint.data_options["selection"] == "(jet_id % 5 > 0) & (jet_id > 9)"
    assert checkpoint.data_options["test_time_selection"] == "jet_id > 19"
    assert checkpoint.options["extra_selection_train"] == "jet_id < 100"
    assert main(["-m", "predict", "-p", "Tops", "small", "--extra-selection-test", "jet_id < 40"]) == 0
    assert " 20 " in capsys.readouterr().out
    assert main(["-m", "predict", "-p", "Tops", "small"]) == 2
    assert "was made with another data config" in capsys.readouterr().err.replace("\n", " ")


def test_a_part_of_the_validation_jets_is_spread_over_all_and_always_the_same(folder: Path) -> None:
    project(folder, "c.calibration_share = 0", sections="")
    own = session(data_fraction=0.5, file_fraction=0.5)
    assert jets.validation_fraction(own) == 0.25
    part = ids(jets.choosing_jets(own, own.schema))
    assert part == ids(jets.choosing_jets(own, own.schema))
    assert len(part) == 31
    assert max(np.diff(part)) <= 8
    tiny = session(data_fraction_val=1e-9, calibration_share=0.9, extra_selection_val="jet_id == 1")
    with pytest.raises(
        UsageError,
        match=r"calibration_share = 0\.9 and 1e-09 of the jets \(data_fraction_val\) leave no validation jets",
    ):
        jets.choosing_jets(tiny, tiny.schema)


def test_what_is_wrong_with_validation_jets_is_said_before_the_first_epoch(folder: Path) -> None:
    project(folder, "c.calibration_share = 0", sections="observers: [p_pt]\n")
    own = session()
    with pytest.raises(DataError, match="observer p_pt is not one number per jet"):
        jets.choosing_jets(own, own.schema)
