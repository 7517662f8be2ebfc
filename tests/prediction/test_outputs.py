"""Names of outputs: short where that is enough, and never one for two files."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phaze_ee.errors import DataError, RunError, UsageError
from phaze_ee.prediction.output_names import Outputs, output_names
from phaze_ee.prediction.outputs import FileJob, check_not_taken, finished, plan
from phaze_ee.prediction.writers import AuditRecipe, InputFile, Manifest, Recipe, open_writer

RECIPE = Recipe(model="m", policy=None, data="d", exit_scores=False, monitored=None)
AUDIT = AuditRecipe(rate=0.1, near=0, seed=1)


def names(folder: Path, *files: str) -> list[str]:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    jobs = plan([folder / file for file in files], folder / "out", "root")
    assert all(job.output.parent == folder / "out" for job in jobs)
    return [job.output.name for job in jobs]


def test_names_say_as_much_as_they_must(tmp_path: Path) -> None:
    assert names(tmp_path, "a/jets.root", "a/other.root") == ["jets.root", "other.root"]
    assert names(tmp_path, "a/jets.root", "b/jets.root", "b/other.root") == ["a_jets.root", "b_jets.root", "other.root"]
    assert names(tmp_path, "run/2024/x/jets.root", "run/2025/jets.root") == ["x_jets.root", "2025_jets.root"]
    assert names(tmp_path, "1/x/jets.root", "2/x/jets.root") == ["1_x_jets.root", "2_x_jets.root"]
    assert names(tmp_path, "jets.root", "jets.h5", "other.root") == ["jets_root.root", "jets_h5.root", "other.root"]


def test_a_name_of_another_file_is_not_taken(tmp_path: Path) -> None:
    chosen = names(tmp_path, "r/a/jets.root", "r/b/jets.root", "r/a_jets.root")
    assert chosen == ["r_a_jets.root", "r_b_jets.root", "a_jets.root"]


@given(st.lists(st.text("ab_", min_size=1, max_size=2), min_size=1, max_size=4).map(tuple))
def test_different_files_have_different_outputs(parts: tuple[str, ...]) -> None:
    files = {Path("/", *parts[:length], f"{parts[-1]}.root") for length in range(len(parts))}
    now = {path: InputFile(path=str(path), size=1, changed_ns=1) for path in sorted(files)}
    try:
        chosen = output_names(now, Outputs(Path("/no folder"), "root"))
    except UsageError:
        return
    assert len({*chosen.values()}) == len(files)
    assert not any("/" in name for name in chosen.values())


def test_as_many_folders_as_the_longest_path_needs() -> None:
    now = {path: InputFile(path=str(path), size=1, changed_ns=1) for path in map(Path, ("/a/x.root", "/b/a/x.root"))}
    assert list(output_names(now, Outputs(Path("/no folder"), "root")).values()) == ["a_x", "b_a_x"]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.root does not exist"):
        plan([tmp_path / "no.root"], tmp_path, "parquet")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"cascade": True}, "an older version that writes no cascade_score"),
        ({"precision": "bfloat16"}, "another precision"),
    ],
)
def test_what_changes_the_columns_is_named(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    (tmp_path / "a.root").touch()
    read = InputFile.of(tmp_path / "a.root")
    manifest = made(FileJob(tmp_path / "a.root", tmp_path / "a.root", read))
    assert manifest.differences(RECIPE, read) == []
    assert manifest.differences(RECIPE.model_copy(update=changed), read) == [words]


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        ({"policy": "p", "monitored": "r"}, {"policy": "q", "monitored": "s", "steps": "t"}, ["another exit policy"]),
        ({"policy": "p"}, {"policy": "q", "monitored": "s"}, ["another exit policy", "another choice of --monitor"]),
        ({"monitored": "r"}, {"monitored": "s"}, ["another choice of --monitor"]),
        ({}, {"audit": AUDIT, "steps": "t"}, ["another choice of --audit, --audit-near or --seed"]),
        (
            {"audit": AUDIT},
            {"audit": AUDIT, "steps": "t"},
            ["other safer policies, or an older version that writes no audit_lost"],
        ),
    ],
)
def test_what_follows_from_another_difference_is_not_named(
    tmp_path: Path, before: dict[str, Any], now: dict[str, Any], words: list[str]
) -> None:
    (tmp_path / "a.root").touch()
    job = FileJob(tmp_path / "a.root", tmp_path / "a.root", InputFile.of(tmp_path / "a.root"))
    manifest = made(job).model_copy(update={"recipe": RECIPE.model_copy(update=before)})
    assert manifest.differences(RECIPE.model_copy(update=now), job.input_file) == words


def test_predictions_of_a_policy_before_a_move_are_kept(tmp_path: Path) -> None:
    job = predicted(tmp_path, "x.root")
    with open_writer(job.output) as writer:
        writer.write({"entry": np.arange(3)})
        writer.finish(made(job).model_copy(update={"recipe": of_policy("p"), "exits": {"full_model": 3}}))
    assert finished(job, of_policy("p")) == finished(job, of_policy("q"), ["o", "p"])
    with pytest.raises(UsageError, match="another exit policy"):
        finished(job, of_policy("q"), ["o"])
    with pytest.raises(UsageError, match="another exit policy"):
        finished(job, of_policy("q").model_copy(update={"steps": "other"}), ["p"])


def of_policy(policy: str) -> Recipe:
    return RECIPE.model_copy(update={"policy": policy})


def predicted(folder: Path, file: str, suffix: str = "root") -> FileJob:
    """Plan the predictions of one file alone, and write a manifest."""
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).touch()
    (folder / "out").mkdir(exist_ok=True)
    (job,) = plan([folder / file], folder / "out", suffix)
    with open_writer(job.output) as writer:
        writer.write({"entry": np.arange(3)})
        writer.finish(made(job))
    return job


def made(job: FileJob) -> Manifest:
    return Manifest(recipe=RECIPE, input=job.input_file, rows=0, labelled=False, exits={}, macs=0, full_macs=0)


def test_names_do_not_change_once_written(tmp_path: Path) -> None:
    assert predicted(tmp_path, "a/x.root").output.name == "x.root"
    assert names(tmp_path, "a/x.root", "b/x.root") == ["x.root", "b_x.root"]
    assert names(tmp_path, "b/x.root") == ["b_x.root"]  # not refused, as x.root is of another file
    assert predicted(tmp_path, "b/x.root").output.name == "b_x.root"
    assert names(tmp_path, "b/x.root", "c/x.root", "d/x.root") == ["b_x.root", "c_x.root", "d_x.root"]
    assert names(tmp_path, "b/x.root", "a/x.root") == ["b_x.root", "x.root"]
    (tmp_path / "out" / "x.root").unlink()
    assert names(tmp_path, "b/x.root") == ["b_x.root"]
    assert plan([tmp_path / "b" / "x.root"], tmp_path / "out", "parquet")[0].output.name == "x.parquet"


def test_two_files_never_share_an_output_that_is_there(tmp_path: Path) -> None:
    predicted(tmp_path, "a/x.root")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    for files in (("a/x.root", "link/x.root"), ("link/x.root", "a/x.root")):
        assert dict(zip(files, names(tmp_path, *files), strict=True)) == {
            "a/x.root": "x.root",
            "link/x.root": "link_x.root",
        }
    predicted(tmp_path, "q/c/x.root").output.rename(tmp_path / "out" / "c_x.root")
    chosen = names(tmp_path, "r/c/x.root", "d/x.root")
    assert chosen == ["r_c_x.root", f"{tmp_path.name}_d_x.root"], "c_x.root is another file's"
    (tmp_path / "out" / "x.root").write_text("damaged")
    assert names(tmp_path, "a/x.root", "d/x.root") == ["a_x.root", "d_x.root"], "of either, so it stays"


def test_a_file_that_changed_keeps_its_name_and_is_refused(tmp_path: Path) -> None:
    for file in ("a/x.root", "b/x.root"):
        predicted(tmp_path, file)
        (tmp_path / file).write_text("other jets")
        (job,) = plan([tmp_path / file], tmp_path / "out", "root")
        with pytest.raises(UsageError, match="was made with another input file"):
            finished(job, RECIPE)


def test_a_file_that_moved_or_is_linked_is_not_predicted_twice(tmp_path: Path) -> None:
    predicted(tmp_path, "a/x.root")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "moved")
    assert names(tmp_path, "a/x.root") == ["x.root"]  # a new file at the old place
    assert plan([tmp_path / "moved" / "x.root"], tmp_path / "out", "root")[0].output.name == "moved_x.root"
    (tmp_path / "a" / "x.root").unlink()
    (job,) = plan([tmp_path / "moved" / "x.root"], tmp_path / "out", "root")
    assert job.output.name == "x.root"
    with pytest.raises(UsageError, match="another input file"):
        finished(job, RECIPE)
    (tmp_path / "a").rmdir()
    (tmp_path / "moved").rename(tmp_path / "a")
    assert plan([tmp_path / "link" / "x.root"], tmp_path / "out", "root")[0].output.name == "x.root"


def test_what_may_be_a_damaged_output_is_refused(tmp_path: Path) -> None:
    predicted(tmp_path, "a/x.root")
    job = predicted(tmp_path, "b/x.root")
    job.output.write_text("damaged")
    (job,) = plan([tmp_path / "b" / "x.root"], tmp_path / "out", "root")
    with pytest.raises(UsageError, match=r"b_x\.root exists and was not written by mode predict"):
        finished(job, RECIPE)


def test_predictions_under_two_names_are_refused(tmp_path: Path) -> None:
    job = predicted(tmp_path, "a/x.root")
    shutil.copy(job.output, job.output.with_name("a_x.root"))
    with pytest.raises(UsageError, match=r"twice, x\.root and a_x\.root; remove one of them"):
        plan([tmp_path / "a" / "x.root"], tmp_path / "out", "root")


def test_what_another_command_wrote_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.root").touch()
    (job,) = plan([tmp_path / "b" / "x.root"], tmp_path / "out", "root")
    check_not_taken(job)
    predicted(tmp_path, "a/x.root")
    with pytest.raises(RunError, match="run the same command again, which chooses another name"):
        check_not_taken(job)
