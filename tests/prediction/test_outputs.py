"""Names of outputs: short where that is enough, and never one for two files."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phaze_ee.errors import DataError, UsageError
from phaze_ee.prediction import outputs
from phaze_ee.prediction.outputs import plan
from phaze_ee.prediction.writers import InputFile, Manifest, Recipe


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


def test_names_that_cannot_be_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="several files of jets would share the output a_jets"):
        names(tmp_path, "a/jets.root", "b/jets.root", "a_jets.root")


@given(st.lists(st.text("ab_", min_size=1, max_size=2), min_size=1, max_size=4).map(tuple))
def test_different_files_have_different_outputs(parts: tuple[str, ...]) -> None:
    files = {Path("/", *parts[:length], f"{parts[-1]}.root") for length in range(len(parts))}
    try:
        chosen = outputs._distinct_names(sorted(files))
    except UsageError:
        return
    assert len(set(chosen)) == len(files)
    assert not any("/" in name for name in chosen)


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
    recipe = Recipe(model="m", policy=None, data="d", exit_scores=False, monitored=None)
    made = Manifest(recipe=recipe, input=read, rows=0, labelled=False, exits={}, macs=0, full_macs=0)
    assert made.differences(recipe, read) == []
    assert made.differences(recipe.model_copy(update=changed), read) == [words]
