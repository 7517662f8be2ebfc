"""Patterns of a configuration, and the fingerprint of a data set."""

import os
from pathlib import Path

import pytest

from phaze_ee.data.files import expand_patterns, fingerprint
from phaze_ee.errors import DataError, UsageError
from tests.data.small import schema


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("data/b.root", "data/a.root", "data/deep/er/c.root", "data/folder.root/d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_patterns_are_sorted_recursive_and_without_repeats(project: Path) -> None:
    found = expand_patterns("train_files", ["data/**/*.root", "data/a.root"], project)
    assert [path.relative_to(project).as_posix() for path in found] == [
        "data/a.root",
        "data/b.root",
        "data/deep/er/c.root",
    ]


def test_a_file_with_several_names_counts_once(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "data" / "also_a.root").symlink_to("a.root")
    monkeypatch.chdir(project)
    names = ["data/a.root", f"{project}/data/a.root", "data/../data/a.root", "data/also_a.root", "data/b.root"]
    assert expand_patterns("calibration_files", names, None) == [project / "data" / "a.root", Path("data/b.root")]


def test_absolute_and_home_patterns(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(project))
    assert len(expand_patterns("train_files", [f"{project}/data/*.root"], None)) == 2
    assert expand_patterns("train_files", ["~/data/a.root"], None) == [project / "data" / "a.root"]


def test_the_current_directory_goes_before_the_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project / "data")
    found = expand_patterns("train_files", ["a.root", "data/b.root"], project)
    assert set(found) == {Path("a.root"), project / "data/b.root"}


def test_brackets_in_names_are_no_pattern(tmp_path: Path) -> None:
    folder = tmp_path / "run [1]"
    folder.mkdir()
    (folder / "jets[2].root").touch()
    assert expand_patterns("train_files", ["*.root"], folder) == [folder / "jets[2].root"]
    assert expand_patterns("train_files", ["jets[2].root"], folder) == [folder / "jets[2].root"]


@pytest.mark.parametrize("pattern", ["data/*.h5", "data/none.root", "data/folder.root"])
def test_no_match_names_option_pattern_and_places(pattern: str, project: Path) -> None:
    with pytest.raises(UsageError, match=r"val_files: no file matches '" + pattern.replace("*", r"\*")) as caught:
        expand_patterns("val_files", ["data/a.root", pattern], project)
    assert str(project) in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("data/aa.root", "folder {root}/data exists, without such a file; did you mean 'a.root'?"),
        ("data/deep/*.root", "folder {root}/data/deep exists, without such a file; it holds er"),
        ("dta/a.root", "{root} has no folder 'dta'; did you mean 'data'?"),
        ("data/dep/er/c.root", "{root}/data has no folder 'dep'; did you mean 'deep'?"),
        ("data/deep", "{root}/data/deep is a folder: name its files, such as {root}/data/deep/*.root"),
        (
            "data/folder.root",
            "{root}/data/folder.root is a folder: name its files, such as {root}/data/folder.root/*.txt",
        ),
        ("empty/*.root", "folder {root}/empty exists, without such a file; it is empty"),
        ("jets:data/aa.root", "folder {root}/data exists, without such a file; did you mean 'a.root'?"),
    ],
)
def test_no_match_says_what_is_there(pattern: str, hint: str, project: Path) -> None:
    (project / "empty").mkdir()
    group, _, path = pattern.rpartition(":")
    entry = f"{group}:{project / path}" if group else str(project / path)
    with pytest.raises(UsageError) as caught:
        expand_patterns("val_files", [entry], None)
    assert str(caught.value) == f"val_files: no file matches {entry!r}; {hint.format(root=project)}"


def test_no_match_of_a_relative_pattern_follows_the_root_where_it_gets_furthest(project: Path) -> None:
    with pytest.raises(UsageError, match=rf"folder {project}/data/deep/er exists.*did you mean 'c\.root'\?"):
        expand_patterns("val_files", ["data/deep/er/cc.root"], project)


def test_fingerprint_changes_with_files_and_config(project: Path) -> None:
    files = [project / "data/a.root", project / "data/b.root"]
    first = fingerprint(files, schema())
    assert first == fingerprint(files, schema())
    assert first != fingerprint(files[:1], schema())
    assert first != fingerprint(files, schema(selection="jet_index > 1"))
    os.utime(files[0], ns=(1, 1))
    assert first != fingerprint(files, schema())
    files[0].unlink()
    with pytest.raises(DataError, match=r"a\.root does not exist"):
        fingerprint(files, schema())


def test_names_of_groups_as_weaver_takes_them(project: Path) -> None:
    found = expand_patterns(
        "train_files", ["HToBB:data/a.root", "QCD%10:data/deep/**/*.root", "QCD:data/b.root"], project
    )
    assert [path.name for path in found] == ["a.root", "b.root", "c.root"]
    (project / "data/run:1.root").touch()
    assert expand_patterns("train_files", ["data/run:1.root", "data/run:*.root"], project) == [
        project / "data/run:1.root"
    ]
    with pytest.raises(UsageError, match=r"train_files: no file matches 'QCD:data/none\.root' \(looked in"):
        expand_patterns("train_files", ["QCD:data/none.root"], project)


def test_lists_of_files(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "# training\n\ndata/a.root\n  QCD:data/deep/**/*.root  \nhere.root\n"
    (project / "lists").mkdir()
    (project / "lists/here.root").touch()
    (project / "lists/train.txt").write_text(lines, encoding="utf-8")
    found = expand_patterns("train_files", ["@lists/train.txt", "data/b.root"], project)
    assert [path.name for path in found] == ["a.root", "b.root", "c.root", "here.root"]
    monkeypatch.chdir(project / "lists")
    assert len(expand_patterns("--files", [f"@{project}/lists/train.txt"], project)) == 3
    (project / "@a.root").touch()
    assert expand_patterns("train_files", ["@a.root"], project) == [project / "@a.root"], "a file with this name"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"# nothing\n", r"train_files: .*list\.txt names no file; write one file or pattern a line"),
        (b"a.root\n@other.txt\n", r"train_files: .*list\.txt names the list '@other\.txt'; write its files out"),
        (b"none.root\n", r"train_files: .*list\.txt: no file matches 'none\.root' \(looked in"),
        (b"\xff\xfe", r"train_files: .*list\.txt cannot be read: .*; give a text file"),
    ],
)
def test_lists_that_are_wrong(content: bytes, message: str, project: Path) -> None:
    (project / "list.txt").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        expand_patterns("train_files", ["@list.txt"], project)
    with pytest.raises(UsageError, match=r"train_files: the list 'absent\.txt' does not exist"):
        expand_patterns("train_files", ["@absent.txt"], project)


def test_an_unknown_user_is_part_of_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"no file matches '~no-such-user/a.root' \(looked in"):
        expand_patterns("train_files", ["~no-such-user/a.root"], None)
    (tmp_path / "~no-such-user").mkdir()
    (tmp_path / "~no-such-user" / "a.root").touch()
    (found,) = expand_patterns("train_files", ["~no-such-user/a.root"], None)
    assert found.samefile(tmp_path / "~no-such-user" / "a.root")
