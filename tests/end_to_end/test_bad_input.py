"""What users get wrong: each has its one line, its exit status, and nothing that existed is lost."""

import importlib
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import uproot

from phaze_ee.cli import main
from phaze_ee.engine.engine import Engine
from phaze_ee.workspace import Project
from tests.end_to_end.command import digest, edit, fails
from tests.jets import random_jets, small_tagger, small_weaver_network
from tests.modes.two_class_project import make_project, save_best_model, write_jets

SMALL = ("-p", "Tops", "small")
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    return tmp_path


@pytest.fixture
def project(folder: Path) -> Project:
    """A project with a model, which no failure may change."""
    project = make_project(folder, "c.epochs = 1", "c.zero_epochs = 0", "c.tensorboard = False")
    save_best_model(project)
    return project


def configure(project: Project, line: str) -> None:
    with project.config.open("a", encoding="utf-8") as file:
        file.write(f"    {line}\n")


@contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    before = digest(folder)
    yield
    assert digest(folder) == before


@contextmanager
def disk_takes(size: int) -> Iterator[None]:
    """Let the system refuse whatever would make a file larger than ``size`` bytes, as a full disk refuses it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


MODES_OF_A_PROJECT = ("train", "evaluate", "benchmark", "plot", "chain")


@pytest.mark.parametrize("mode", MODES_OF_A_PROJECT)
def test_a_missing_project(folder: Path, capsys: Capture, mode: str) -> None:
    text = fails(capsys, 2, "-m", mode, "-p", "W", "nothing")
    assert "no project W/nothing in " in text
    assert text.endswith("create it: phaze_ee -m new_project -p W nothing")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("mode", [*MODES_OF_A_PROJECT, "new_project", "compare"])
def test_no_project_named(folder: Path, capsys: Capture, mode: str) -> None:
    assert "needs -p WORKSPACE PROJECT" in fails(capsys, 2, "-m", mode)


@pytest.mark.parametrize("mode", [*MODES_OF_A_PROJECT, "new_project", "demo"])
@pytest.mark.parametrize("names", [("../x", "p"), ("w", "../x"), ("..", "evil"), ("/etc", "p"), ("w", "")])
def test_a_name_that_leads_elsewhere(folder: Path, capsys: Capture, mode: str, names: tuple[str, str]) -> None:
    with unchanged(folder):
        assert "is not usable: use letters" in fails(capsys, 2, "-m", mode, "-p", *names)


def test_an_unknown_operation(project: Project, capsys: Capture) -> None:
    with unchanged(project.root), pytest.raises(SystemExit) as ended:
        main(["-m", "chain", *SMALL, "-o", "train_evalute"])
    assert ended.value.code == 2
    text = capsys.readouterr().err
    assert "unknown operation 'evalute'" in text
    assert text.count("\n") == 1


@pytest.mark.parametrize("line", ["c.exit_head = ['linear']", "c.exit_stages = [7]", "c.train_files = ['none.root']"])
def test_a_wrong_option_that_only_the_run_notices_names_the_configuration(
    project: Project, capsys: Capture, line: str
) -> None:
    configure(project, line)
    assert f"{project.config}: " in fails(capsys, 2, "-m", "train", *SMALL)


@pytest.mark.parametrize("mode", ["new_project", "demo"])
def test_an_existing_project(project: Project, capsys: Capture, mode: str) -> None:
    with unchanged(project.root):
        assert "project Tops/small exists already" in fails(capsys, 2, "-m", mode, *SMALL)


def test_an_unknown_option_in_the_configuration(project: Project, capsys: Capture) -> None:
    configure(project, "c.epoch = 3")
    with unchanged(project.root):
        text = fails(capsys, 2, "-m", "train", *SMALL)
    line = len(project.config.read_text(encoding="utf-8").splitlines())
    assert text == f"{project.config}:{line}: unknown option 'epoch'; did you mean 'epochs'?"


@pytest.mark.parametrize("option", ["train_files", "val_files", "test_files"])
def test_a_pattern_that_matches_nothing(project: Project, folder: Path, capsys: Capture, option: str) -> None:
    pattern = str(folder / "none" / "*.root")
    configure(project, f"c.{option} = [{pattern!r}]")
    with unchanged(project.root):
        text = fails(capsys, 2, "-m", "evaluate" if option == "test_files" else "train", *SMALL)
    assert text.startswith(f"{project.config}: {option}: no file matches {pattern!r}")


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("data_config", "none.yaml", "data_config 'none.yaml' does not exist"),
        ("network_config", "none.py", "network_config 'none.py' does not exist"),
        ("init_from", "none.pt", "init_from 'none.pt' does not exist"),
        ("num_classes", 5, "num_classes = 5, but"),
        ("exit_head", "mlpp", "unknown exit_head 'mlpp'"),
    ],
)
def test_an_option_that_names_nothing(
    project: Project, capsys: Capture, option: str, value: object, expected: str
) -> None:
    configure(project, f"c.{option} = {value!r}")
    with unchanged(project.root):
        assert expected in fails(capsys, 2, "-m", "train", *SMALL)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


def make_empty(path: Path) -> None:
    path.write_bytes(b"")


def make_text(path: Path) -> None:
    path.write_text("not a ROOT file", encoding="utf-8")


def rewrite(path: Path, **changes: Any) -> None:
    """Write the jets again with some branches replaced; None removes one."""
    with uproot.open(path) as file:
        columns = file["Events"].arrays(library="np")
    columns = {name: values for name, values in {**columns, **changes}.items() if values is not None}
    with uproot.recreate(path) as file:
        file.mktree("Events", {name: (values.dtype, values.shape[1:]) for name, values in columns.items()})
        file["Events"].extend(columns)


def remove_branch(path: Path) -> None:
    rewrite(path, p_pt=None)


def label_twice(path: Path) -> None:
    rewrite(path, is_top=np.ones(40, dtype=bool))


def label_nothing(path: Path) -> None:
    write_jets(path, np.full(40, 7))


def put_into_row_3(value: float) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with uproot.open(path) as file:
            momenta = file["Events"]["p_pt"].array(library="np")
        momenta[3, 5] = value
        rewrite(path, p_pt=momenta)

    return damage


@pytest.mark.parametrize("mode", ["train", "evaluate"])
@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (truncate, "cannot read"),
        (make_empty, "cannot read"),
        (make_text, "cannot read"),
        (remove_branch, "has no branch p_pt"),
        (label_twice, "row 0: the labels is_qcd, is_top sum to 2; exactly one of them must be 1"),
        (label_nothing, "row 0: the labels is_qcd, is_top sum to 0; exactly one of them must be 1"),
        (put_into_row_3(float("nan")), "row 3: p_pt is NaN"),
        (put_into_row_3(float("-inf")), "row 3: p_pt is infinite"),
    ],
)
def test_a_data_file_that_cannot_be_used(
    project: Project, folder: Path, capsys: Capture, mode: str, damage: Callable[[Path], None], expected: str
) -> None:
    damage(folder / "val.root")
    with unchanged(project.root):
        text = fails(capsys, 2, "-m", mode, *SMALL)
    assert str(folder / "val.root") in text
    assert expected in text


@pytest.mark.parametrize("content", ["inputs: [", "just text", "", "labels: {}\n"])
def test_a_data_configuration_that_cannot_be_used(
    project: Project, folder: Path, capsys: Capture, content: str
) -> None:
    (folder / "two_classes.yaml").write_text(content, encoding="utf-8")
    with unchanged(project.root):
        assert str(folder / "two_classes.yaml") in fails(capsys, 2, "-m", "train", *SMALL)


def test_no_checkpoint_yet(folder: Path, capsys: Capture) -> None:
    project = make_project(folder)
    with unchanged(project.root):
        text = fails(capsys, 2, "-m", "evaluate", *SMALL)
    assert str(project.best_model) in text
    assert text.endswith("train it first: phaze_ee -m train -p Tops small")


@pytest.mark.parametrize("mode", ["evaluate", "benchmark"])
def test_a_damaged_checkpoint(project: Project, capsys: Capture, mode: str) -> None:
    truncate(project.best_model)
    with unchanged(project.root):
        text = fails(capsys, 2, "-m", mode, *SMALL)
    assert f"checkpoint {project.best_model} cannot be read" in text


def test_a_checkpoint_of_another_architecture(project: Project, folder: Path, capsys: Capture) -> None:
    torch.save(small_weaver_network().state_dict(), folder / "other.pt")
    configure(project, f"c.init_from = {str(folder / 'other.pt')!r}")
    with unchanged(project.root):
        text = fails(capsys, 2, "-m", "train", *SMALL)
    assert f"checkpoint {folder / 'other.pt'} is of another architecture: " in text
    assert "its network takes 7 features of a particle, and the inputs of the data_config give 3; set" in text


def test_results_that_are_missing_or_damaged(project: Project, capsys: Capture) -> None:
    with unchanged(project.root):
        assert "has no evaluation_results.json yet; run phaze_ee -m chain" in fails(capsys, 2, "-m", "plot", *SMALL)
    project.results.mkdir()
    for path in (project.evaluation_results, project.benchmark_results):
        path.write_text("{}", encoding="utf-8")
    with unchanged(project.root):
        text = fails(capsys, 2, "-m", "plot", *SMALL)
    assert f"{project.evaluation_results} is not a results file of this version" in text
    assert text.endswith("run mode 'evaluate' again")


def test_comparing_what_cannot_be_compared(project: Project, folder: Path, capsys: Capture) -> None:
    with unchanged(folder):
        text = fails(capsys, 2, "-m", "compare", "-p", "Tops", "dummy", "--projects", "small")
        assert "project Tops/small has no evaluation_results.json yet" in text
        text = fails(capsys, 2, "-m", "compare", "-p", "Tops", "dummy", "--projects", "smal")
        assert "no project Tops/smal in" in text
        assert "did you mean 'small'?" in text
        assert "is evaluated and benchmarked" in fails(capsys, 2, "-m", "compare", "-p", "Empty", "dummy")


def test_a_chain_stops_at_the_first_failure(project: Project, folder: Path, capsys: Capture) -> None:
    truncate(folder / "val.root")
    with unchanged(project.root):
        fails(capsys, 2, "-m", "chain", *SMALL, "-o", "evaluate_benchmark_plot")
    assert not project.benchmark_results.exists()


@pytest.mark.parametrize(
    ("mode", "size", "name", "first"),
    [
        ("train", 2_000, "output/models/latest_model.pt", "output/models/resume.ckpt"),
        ("evaluate", 500, "output/results/evaluation_results.json", "output/results/evaluation_results.json"),
        ("benchmark", 500, "output/results/benchmark_results.json", "output/results/benchmark_results.json"),
    ],
)
def test_a_full_disk(project: Project, capsys: Capture, mode: str, size: int, name: str, first: str) -> None:
    # Compiled loops, weaver's and ours, write to a cache of their own, once.
    importlib.import_module("phaze_ee.data.warm_up")
    Engine(small_tagger().float())(random_jets([20, 3], dtype=torch.float32))
    (project.root / name).parent.mkdir(exist_ok=True)
    (project.root / name).write_text("of an earlier run", encoding="utf-8")
    with unchanged(project.root), disk_takes(size):
        text = fails(capsys, 1, "-m", mode, *SMALL)
    assert text.startswith(f"cannot write {project.root / first}: ")
    assert text.endswith("free space or check permissions, then run again")


def test_a_full_disk_leaves_no_half_project(folder: Path, capsys: Capture) -> None:
    with disk_takes(50):
        text = fails(capsys, 1, "-m", "new_project", "-p", "W", "P")
    assert "P_config.py" in text
    assert not Project("W", "P").root.exists()
    assert main(["-m", "new_project", "-p", "W", "P"]) == 0


def test_a_loss_that_is_not_finite(project: Project, capsys: Capture) -> None:
    configure(project, "c.lr = 1e30")
    configure(project, "c.gradient_clip = 0")
    configure(project, "c.epochs = 5")
    with unchanged(project.models):
        text = fails(capsys, 1, "-m", "train", *SMALL)
        (project.models / "bad_batch.pt").unlink()  # kept for a look
    assert "the loss is not finite in epoch 1, batch " in text
    assert "lower lr" in text


def test_a_batch_larger_than_the_data_and_more_workers_than_files(project: Project) -> None:
    """Neither is an error."""
    configure(project, "c.batch_size = 10_000")
    configure(project, "c.num_workers = 3")
    assert main(["-m", "train", *SMALL]) == 0


def test_validation_on_the_training_jets_is_warned_of(project: Project, capsys: Capture) -> None:
    configure(project, "c.val_files = c.train_files")
    assert main(["-m", "train", *SMALL]) == 0
    assert "in train_files and in val_files" in capsys.readouterr().out


def test_a_new_project_that_loses_its_sample_jets(folder: Path, capsys: Capture) -> None:
    """The data folder of a project is looked into, and a file list that empties is noticed."""
    assert main(["-m", "new_project", "-p", "W", "P"]) == 0
    project = Project("W", "P")
    write_jets(project.data / "jets.root", np.arange(40) % 2)
    edit(project, train_files=["data/*.root"])
    shutil.rmtree(project.data)
    assert "train_files: no file matches 'data/*.root'" in fails(capsys, 2, "-m", "train", "-p", "W", "P")
