"""The distribution without torch: complete, of the same versions, and one line for what it cannot do."""

import importlib.util
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import phaze_ee
from phaze_ee import installation
from phaze_ee.cli import main
from phaze_ee.errors import UsageError

REPOSITORY = Path(__file__).parents[1]
NOT_SHIPPED = {"sample_jets", "workspaces", "__pycache__"}


def project(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text())


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        installation, "find_spec", lambda name: None if name == "torch" else importlib.util.find_spec(name)
    )


def test_the_runtime_ships_all_modules_and_no_jets() -> None:
    included = project(REPOSITORY / "runtime")["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    own = {path.name for path in (REPOSITORY / "phaze_ee").iterdir()} - NOT_SHIPPED
    assert included == {f"../phaze_ee/{name}": f"phaze_ee/{name}" for name in own} | {"../LICENSE": "phaze_ee/LICENSE"}


def test_the_runtime_allows_the_same_versions() -> None:
    whole, runtime = project(REPOSITORY)["project"], project(REPOSITORY / "runtime")["project"]
    extras = [*whole["optional-dependencies"].values(), *runtime["optional-dependencies"].values()]
    known = {*whole["dependencies"], *(line for own in extras for line in own)}
    assert {*runtime["dependencies"]} <= known
    assert {line for own in runtime["optional-dependencies"].values() for line in own} <= {*whole["dependencies"]}
    assert runtime["requires-python"] == whole["requires-python"]
    assert runtime["scripts"] == whole["scripts"]


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    whole = project(REPOSITORY)["project"]
    assert citation["version"] == phaze_ee.__version__ == whole["version"]
    assert citation["license"] == whole["license"]
    assert citation["repository-code"] in (REPOSITORY / "README.md").read_text()


@pytest.mark.usefixtures("without_torch")
@pytest.mark.parametrize("arguments", [("train", "-p", "a", "b"), ("list",), ("predict", "--files", "x.root")])
def test_modes_say_what_to_install(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-m", *arguments]) == 2
    error = capsys.readouterr().err
    assert f"mode {arguments[0]!r} needs torch" in error
    assert "in a checkout of PHAZE-EE: pip install ." in error
    assert error.count("\n") == 1


@pytest.mark.usefixtures("without_torch")
def test_predict_of_a_bundle_needs_no_torch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-m", "predict", "--bundle", str(tmp_path), "--files", "x.root"]) == 2
    assert "holds no exported tagger" in capsys.readouterr().err


@pytest.mark.usefixtures("without_torch")
def test_python_names_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(UsageError, match=r"phaze_ee\.load needs torch, .*in a checkout of PHAZE-EE: pip install \."):
        _ = phaze_ee.load


def test_one_library() -> None:
    installation.require("numpy", "--format x", "numpy")
    with pytest.raises(UsageError, match=r"--format x needs no_such_library, .*pip install other"):
        installation.require("no_such_library", "--format x", "other")
