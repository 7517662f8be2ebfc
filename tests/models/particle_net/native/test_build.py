"""Compiling on demand: the cache, and what a user reads when it fails."""

import subprocess
import sys
from pathlib import Path

import pytest

from phaze_ee.errors import RunError, UsageError
from phaze_ee.models.particle_net.native.build import cache_folder, load_library
from tests.compiler import needs_compiler
from tests.jets import small_tagger

ANSWER = 'extern "C" int answer() { return 42; }\n'
LOAD = """
import sys
from pathlib import Path
from phaze_ee.models.particle_net.native.build import load_library
print(load_library(Path(sys.argv[1])).answer())
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PHAZE_EE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(folder: Path, text: str) -> Path:
    source = folder / "answer.cpp"
    source.write_text(text, encoding="utf-8")
    return source


@needs_compiler
def test_the_library_is_compiled_once(cache: Path, tmp_path: Path) -> None:
    source = write(tmp_path, ANSWER)
    first = load_library(source)
    assert first.answer() == 42
    (built,) = cache.iterdir()
    made = built.stat().st_mtime_ns
    assert load_library(source) is first
    assert subprocess.check_output([sys.executable, "-c", LOAD, str(source)], text=True) == "42\n"
    assert [path.stat().st_mtime_ns for path in cache.iterdir()] == [made]


@needs_compiler
def test_a_changed_source_or_header_makes_another_library(cache: Path, tmp_path: Path) -> None:
    assert load_library(write(tmp_path, ANSWER)).answer() == 42
    with_header = write(tmp_path, '#include "number.hpp"\n' + ANSWER.replace("42", "number"))
    for number in (43, 44):
        (tmp_path / "number.hpp").write_text(f"constexpr int number = {number};\n", encoding="utf-8")
        assert load_library(with_header).answer() == number
    assert len(list(cache.iterdir())) == 3


@needs_compiler
def test_other_flags_or_another_compiler_make_another_library(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path, ANSWER)
    load_library(source)
    monkeypatch.setenv("CXX", "c++ -DOTHER")
    load_library(source)
    assert len(list(cache.iterdir())) == 2


@needs_compiler
def test_processes_that_compile_at_once_all_get_a_whole_library(cache: Path, tmp_path: Path) -> None:
    source = write(tmp_path, ANSWER)
    command = [sys.executable, "-c", LOAD, str(source)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[0] for process in running] == ["42\n"] * 3
    assert len(list(cache.iterdir())) == 1


@needs_compiler
def test_a_failed_compilation_says_why(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be compiled with .*: .*error.*; install .*backend='auto'"):
        load_library(write(tmp_path, "int answer() { return unknown; }\n"))
    assert list(cache.iterdir()) == []


@needs_compiler
def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PHAZE_EE_CACHE", str(tmp_path / "file"))
    with pytest.raises(RunError, match=r"cannot write .*answer-"):
        load_library(write(tmp_path, ANSWER))


def test_without_a_compiler_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"none of c\+\+, g\+\+, clang\+\+ is found; install .*backend='auto'"):
        small_tagger().native()


def test_a_chosen_compiler_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    with pytest.raises(UsageError, match=r"\$CXX = no-such-compiler is not found"):
        small_tagger().native()


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHAZE_EE_CACHE", "/some/where")
    assert cache_folder() == Path("/some/where")
    monkeypatch.setenv("PHAZE_EE_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder() == Path("/caches/phaze_ee")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "phaze_ee"
