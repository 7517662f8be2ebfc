import os
from collections.abc import Callable
from pathlib import Path

import pytest

from phaze_ee.errors import UsageError
from phaze_ee.generate import GeneratorOptions, Progress
from phaze_ee.modes import generate
from phaze_ee.modes.request import Request
from phaze_ee.modes.session import Session
from phaze_ee.workspace import Project


def test_flags_become_options(tmp_path: Path) -> None:
    request = Request(
        "generate",
        output=tmp_path,
        jets=30,
        classes=["HToBB"],
        seed=9,
        workers=3,
        generator="fast",
        overwrite=True,
        vertices=True,
    )
    assert generate.generator_options(request) == GeneratorOptions(
        tmp_path, 30, ("HToBB",), seed=9, workers=3, mode="fast", overwrite=True, vertices=True
    )


def test_what_is_left_open_keeps_its_default(tmp_path: Path) -> None:
    options = generate.generator_options(Request("generate", output=tmp_path))
    assert options == GeneratorOptions(tmp_path, workers=os.cpu_count() or 1)


def test_without_output_files_go_to_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path))
    with pytest.raises(UsageError, match="needs --output FOLDER, or -p WORKSPACE PROJECT"):
        generate.generator_options(Request("generate"))
    project = Project("mine", "first")
    request = Request("generate", workspace="mine", project="first")
    with pytest.raises(UsageError, match="no project mine/first"):
        generate.generator_options(request)
    project.config.parent.mkdir(parents=True)
    project.config.write_text("")
    assert generate.generator_options(request).output == project.data


def test_the_files_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def generated(options: GeneratorOptions, report: Callable[[Progress], None]) -> list[Path]:
        report(Progress(5, 5))
        file = options.output / "HToBB_000.root"
        file.write_bytes(b"0" * 2_500_000)
        return [file]

    monkeypatch.setattr(generate, "generate_files", generated)
    generate.run(Session.open(Request("generate", output=tmp_path, jets=5, classes=["HToBB"])))
    printed = capsys.readouterr().out
    assert "HToBB" in printed
    assert "2.50" in printed
    assert max(map(len, printed.splitlines()[:-1])) <= 80
    assert f"Written: {tmp_path}" in printed


def test_nothing_is_printed_before_the_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(options: GeneratorOptions, report: Callable[[Progress], None]) -> list[Path]:
        raise UsageError("a file exists")

    monkeypatch.setattr(generate, "generate_files", refused)
    with pytest.raises(UsageError):
        generate.run(Session.open(Request("generate", output=tmp_path)))
    assert capsys.readouterr().out == ""
