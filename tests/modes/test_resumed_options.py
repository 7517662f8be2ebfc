"""A training that an older version began resumes, unless an option or the data have changed."""

from pathlib import Path
from typing import Any

import pytest

from phaze_ee.config.options import Options
from phaze_ee.errors import UsageError
from phaze_ee.modes.train import check_unchanged
from phaze_ee.training.resume import ResumePoint
from phaze_ee.training.run import DataRecord, run_record

NEW = ("data_fraction", "file_fraction", "extra_selection", "bad_values")


def record(inputs: tuple[str, ...] = (), **values: Any) -> dict[str, object]:
    files = {"train_files": ["a.root"], "val_files": ["b.root"]}
    return run_record(
        Options.model_validate({**files, **values}), DataRecord({"inputs": dict.fromkeys(inputs)}, "hash")
    )


def test_an_option_that_is_new_since_had_its_default() -> None:
    older = {name: value for name, value in record(lr=0.1).items() if name not in NEW}
    point = ResumePoint(Path("resume.ckpt"), 1, 0, 10, older)
    check_unchanged(point, record(lr=0.1), "config.py")
    with pytest.raises(UsageError, match=r"interrupted: data_fraction was 1\.0, now 0\.5; undo"):
        check_unchanged(point, record(lr=0.1, data_fraction=0.5), "config.py")
    with pytest.raises(UsageError, match=r"interrupted: lr was 0\.1, now 0\.2; undo"):
        check_unchanged(point, record(lr=0.2), "config.py")


def test_the_working_point_is_part_of_a_training_for_it() -> None:
    cascade: dict[str, Any] = {"exit_loss_strategy": "reject_detached", "signal": "label_Hbb"}
    point = ResumePoint(Path("resume.ckpt"), 1, 0, 10, record(**cascade))
    check_unchanged(point, record(**cascade), "config.py")
    with pytest.raises(UsageError, match=r"signal was 'label_Hbb', now 'label_Hcc'; undo"):
        check_unchanged(point, record(**{**cascade, "signal": "label_Hcc"}), "config.py")
    plain = ResumePoint(Path("resume.ckpt"), 1, 0, 10, record())
    check_unchanged(plain, record(signal="label_Hcc"), "config.py")


def test_as_many_processes_go_on_as_began(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    point = ResumePoint(Path("resume.ckpt"), 1, 0, 10, record())
    check_unchanged(point, record(), "config.py")
    monkeypatch.delenv("WORLD_SIZE")
    with pytest.raises(UsageError, match=r"interrupted: number of processes was 2, now 1; undo"):
        check_unchanged(point, record(), "config.py")


def test_weights_to_start_from_and_network_files_are_those_of_the_beginning() -> None:
    options = Options.model_validate({"train_files": ["a.root"], "val_files": ["b.root"]})
    before, now = (
        run_record(options, DataRecord({"inputs": {}}, "hash", {"init_from": digest})) for digest in ("abc", "abd")
    )
    check_unchanged(ResumePoint(Path("resume.ckpt"), 1, 0, 10, before), before, "config.py")
    with pytest.raises(UsageError, match="interrupted: the content of init_from; undo"):
        check_unchanged(ResumePoint(Path("resume.ckpt"), 1, 0, 10, before), now, "config.py")
    check_unchanged(ResumePoint(Path("resume.ckpt"), 1, 0, 10, record()), now, "config.py")  # of an earlier version


def test_input_groups_keep_their_order() -> None:
    """A network gets its inputs by their places."""
    before, now = record(("ch_features", "ne_features")), record(("ne_features", "ch_features"))
    point = ResumePoint(Path("resume.ckpt"), 1, 0, 10, before)
    check_unchanged(point, before, "config.py")
    with pytest.raises(UsageError, match=r"the order of inputs was \['ch_features', 'ne_features'\], now \['ne_"):
        check_unchanged(point, now, "config.py")
    older = {name: value for name, value in before.items() if name != "the order of inputs"}
    check_unchanged(ResumePoint(Path("resume.ckpt"), 1, 0, 10, older), now, "config.py")
