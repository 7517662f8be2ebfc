"""What docs/SECURITY.md promises: which files are programs, and which are data, whoever made them."""

import json
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import tables
import torch
import uproot
import yaml

import phaze_ee
from phaze_ee.cli import main
from phaze_ee.data import allowed_names
from phaze_ee.data.cache.reader import Contents
from phaze_ee.data.schema import DataSchema
from phaze_ee.errors import DataError
from phaze_ee.workspace import Project
from tests.data.test_hdf5 import Command
from tests.modes.two_class_project import DATA_CONFIG, make_project, save_best_model

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "SECURITY.md"
PROJECT = ("-p", "Tops", "small")
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    return tmp_path


@pytest.fixture
def trace(folder: Path) -> Path:
    """A file that is there if a command ran."""
    return folder / "a_command_ran"


@pytest.fixture
def project(folder: Path) -> Project:
    project = make_project(folder)
    save_best_model(project)
    return project


def evaluate(project: Project, *lines: str) -> int:
    """Evaluate, with more lines in the configuration."""
    text = project.config.read_text(encoding="utf-8")
    project.config.write_text(text + "".join(f"    {line}\n" for line in lines), encoding="utf-8")
    return main(["-m", "evaluate", *PROJECT])


def attack(trace: Path, harmless: str) -> str:
    """Return an expression that runs a command and then gives the value of another."""
    return f"ak.ones_like({harmless}) if not __import__('pathlib').Path({str(trace)!r}).touch() else 0"


def set_mask(content: dict[str, Any], formula: str) -> None:
    content["new_variables"]["p_mask"] = formula


def spoil_yaml(folder: Path, formula: str) -> None:
    content = yaml.safe_load(DATA_CONFIG)
    set_mask(content, formula)
    (folder / "two_classes.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def spoil_checkpoint(project: Project, formula: str) -> None:
    content = torch.load(project.best_model, weights_only=True)
    set_mask(content["data_options"], formula)
    torch.save(content, project.best_model)


def test_a_configuration_is_a_program(project: Project, trace: Path) -> None:
    assert evaluate(project, f"import pathlib; pathlib.Path({str(trace)!r}).touch()") == 0
    assert trace.exists()


def test_a_network_file_is_a_program(folder: Path, project: Project, trace: Path) -> None:
    network = folder / "network.py"
    network.write_text(f"import pathlib\npathlib.Path({str(trace)!r}).touch()\n", encoding="utf-8")
    project.best_model.unlink()
    text = project.config.read_text(encoding="utf-8")
    project.config.write_text(f"{text}    c.network_config = {str(network)!r}\n", encoding="utf-8")
    main(["-m", "benchmark", *PROJECT])
    assert trace.exists()


def test_your_own_expressions_may_be_any_python_if_you_say_so(folder: Path, project: Project, trace: Path) -> None:
    spoil_yaml(folder, attack(trace, "p_pt"))
    spoil_checkpoint(project, attack(trace, "p_pt"))
    assert evaluate(project) == 2
    assert not trace.exists()
    assert evaluate(project, "c.trust_expressions = True") == 0
    assert trace.exists()


def test_hdf5_files_are_data(folder: Path, project: Project, trace: Path) -> None:
    columns = uproot.open(folder / "val.root")["Events"].arrays(library="np")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTables: pickles are slow
        with tables.open_file(str(folder / "val.h5"), "w") as file:
            for name, values in columns.items():
                file.create_array("/", name, values).attrs.note = Command(trace)
            file.root._v_attrs.note = Command(trace)
            file.create_vlarray("/", "objects", tables.ObjectAtom()).append(Command(trace))
    assert evaluate(project, f"c.test_files = [{str(folder / 'val.h5')!r}]") == 0
    assert not trace.exists()
    spoil_yaml(folder, "objects")
    spoil_checkpoint(project, "objects")
    assert evaluate(project) == 2
    assert not trace.exists()


def test_parquet_files_are_data(folder: Path, project: Project, trace: Path) -> None:
    columns = uproot.open(folder / "val.root")["Events"].arrays(library="np")
    # as pyarrow once stored types that Python defines: a pickle
    extension = {
        "ARROW:extension:name": "arrow.py_extension_type",
        "ARROW:extension:metadata": pickle.dumps(Command(trace)),
    }
    fields = [
        pyarrow.field(name, pyarrow.array(list(values)).type, metadata=extension) for name, values in columns.items()
    ]
    table = pyarrow.table([pyarrow.array(list(values)) for values in columns.values()], schema=pyarrow.schema(fields))
    pyarrow.parquet.write_table(table, folder / "val.parquet")
    assert evaluate(project, f"c.test_files = [{str(folder / 'val.parquet')!r}]") == 0
    assert not trace.exists()


def test_root_files_are_data(folder: Path, project: Project, trace: Path, capsys: Capture) -> None:
    columns = uproot.open(folder / "val.root")["Events"].arrays(library="np")
    with uproot.recreate(folder / "more.root") as file:
        file["note"] = f"__import__('pathlib').Path({str(trace)!r}).touch()"
        file.mktree(
            "Events", {name: (values.dtype, values.shape[1:]) for name, values in columns.items()} | {"text": str}
        )
        file["Events"].extend(columns | {"text": ["a"] * len(columns["jet_id"])})
    assert evaluate(project, f"c.test_files = [{str(folder / 'more.root')!r}]") == 0
    spoil_yaml(folder, "text")
    spoil_checkpoint(project, "text")
    assert evaluate(project) == 2
    assert "more.root: p_mask does not hold real numbers but string" in capsys.readouterr().err
    assert not trace.exists()


def test_data_configurations_are_data(folder: Path, project: Project, trace: Path, capsys: Capture) -> None:
    spoil_yaml(folder, attack(trace, "p_pt"))
    assert evaluate(project) == 2
    message = capsys.readouterr().err
    assert "two_classes.yaml: the expression of 'p_mask' uses .touch, which is not allowed" in message
    tag = "!!python/object/apply:pathlib.Path.touch"
    (folder / "two_classes.yaml").write_text(f"{DATA_CONFIG}treename: {tag} [{trace}]\n", encoding="utf-8")
    assert evaluate(project) == 2
    with pytest.raises(DataError, match="which is not allowed"):
        DataSchema.from_options({**yaml.safe_load(DATA_CONFIG), "selection": attack(trace, "p_pt")})
    assert not trace.exists()


@pytest.mark.parametrize("section", ["selection", "test_time_selection", "new_variables", "labels", "weights", "basis"])
def test_all_expressions_of_a_data_configuration_are_checked(section: str) -> None:
    content = yaml.safe_load(DATA_CONFIG)
    text = "__import__('os')"
    reweighting = {
        "reweight_vars": {"a": [0, 1], "b": [0, 1]},
        "reweight_classes": ["is_qcd"],
        "reweight_basewgt": text,
    }
    content |= {
        "selection": {"selection": text},
        "test_time_selection": {"test_time_selection": text},
        "new_variables": {"new_variables": {"unused": text}},
        "labels": {"labels": {"type": "simple", "value": ["is_qcd", text]}},
        "weights": {"weights": {"use_precomputed_weights": True, "weight_branches": ["w", text]}},
        "basis": {"weights": {"use_precomputed_weights": False, **reweighting}},
    }[section]
    with pytest.raises(DataError, match="uses the function __import__, which is not allowed"):
        DataSchema(content)


def test_names_are_never_evaluated(folder: Path, project: Project, trace: Path) -> None:
    """Inputs, observers and monitor variables are names of columns or new variables, not expressions."""
    content = yaml.safe_load(DATA_CONFIG)
    content["observers"] = [attack(trace, "p_pt")]
    content["inputs"]["pf_mask"]["vars"] = [attack(trace, "p_pt")]
    (folder / "two_classes.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    project.best_model.unlink()
    assert main(["-m", "train", *PROJECT]) == 2
    assert not trace.exists()


def test_checkpoints_are_data(folder: Path, project: Project, trace: Path, capsys: Capture) -> None:
    spoil_checkpoint(project, attack(trace, "p_pt"))
    for lines in ((), ("c.trust_expressions = True",)):
        assert evaluate(project, *lines) == 2
        message = capsys.readouterr().err
        assert "best_model.pt: the expression of 'p_mask' uses .touch, which is not allowed" in message
    with pytest.raises(DataError, match="which is not allowed"):
        phaze_ee.read_jets(project.best_model, [folder / "val.root"])
    torch.save({"format": "phaze_ee.tagger", "options": Command(trace)}, project.best_model)
    assert evaluate(project) == 2
    assert not trace.exists()


def test_caches_are_data(folder: Path, project: Project, trace: Path, capsys: Capture) -> None:
    text = project.config.read_text(encoding="utf-8")
    project.config.write_text(text + "    c.use_cache = 'always'\n    c.trust_expressions = True\n", encoding="utf-8")
    assert main(["-m", "convert", *PROJECT]) == 0
    manifests = list(folder.rglob("manifest.json"))
    assert manifests
    for path in manifests:
        content = json.loads(path.read_text(encoding="utf-8"))
        set_mask(content["options"], attack(trace, "p_pt"))
        del content["checksum"]  # who makes a file can also make its checksum
        path.write_text(Contents.model_validate(content).sealed().model_dump_json(), encoding="utf-8")
    capsys.readouterr()
    assert main(["-m", "train", *PROJECT]) == 2
    assert "manifest.json: the expression of 'p_mask' uses .touch, which is not allowed" in capsys.readouterr().err
    assert not trace.exists()


def test_exit_policies_and_results_are_data(project: Project, trace: Path, capsys: Capture) -> None:
    project.exit_policy.parent.mkdir(parents=True, exist_ok=True)
    project.exit_policy.write_bytes(pickle.dumps(Command(trace)))
    assert evaluate(project) == 2
    assert str(project.exit_policy) in capsys.readouterr().err
    assert not trace.exists()


def test_the_document_lists_all_names() -> None:
    listed = set(re.findall(r"`([^`]+)`", DOCUMENT.read_text(encoding="utf-8")))
    groups = [*allowed_names.FUNCTIONS.values(), *allowed_names.CONSTANTS.values(), allowed_names.HELPERS]
    groups += [allowed_names.METHODS, allowed_names.ATTRIBUTES, allowed_names.KEYWORDS, allowed_names.TYPES]
    assert frozenset().union(*groups) <= listed
