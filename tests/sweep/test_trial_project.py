from pathlib import Path

import pytest

from phaze_ee.config.load import load_options
from phaze_ee.data.files import expand_patterns
from phaze_ee.errors import UsageError
from phaze_ee.sweep.trial_project import make_trial, trial_project
from phaze_ee.workspace import Project, find_file
from tests.parts import nothing_registered

CONFIG = """
from pathlib import Path
def set_config(c):
    c.train_files = ["data/*.root", "sample_jets/train/HToBB_000.root"]
    c.val_files = [str(Path(__file__).parent / "val.root")]
    c.data_config = "data/own.yaml"
    c.init_from = "output/models/best_model.pt"
    c.epochs = 7
"""
DRAWN = {"lr": 0.0123456789012345, "data_config": 'a "quoted""" \\name'}


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "spaces"))
    monkeypatch.chdir(tmp_path)
    project = Project("W", "base")
    for name in ("data/a.root", "data/own.yaml", "output/models/best_model.pt"):
        (project.root / name).parent.mkdir(parents=True, exist_ok=True)
        (project.root / name).write_text(name)
    project.config.parent.mkdir()
    project.config.write_text(CONFIG)
    return project


def made(base: Project) -> Project:
    trial = trial_project(base, "sweep", 3)
    make_trial(trial, base, "sweep", load_options(base.config, {"lr": DRAWN["lr"], "seed": 5}), DRAWN)
    return trial


def test_a_trial_stands_on_its_own(base: Project) -> None:
    expected = load_options(base.config, {"lr": DRAWN["lr"], "seed": 5})
    trial = made(base)
    assert str(trial) == "W/base_sweep_003"
    files = expand_patterns("train_files", load_options(trial.config).train_files, trial.root)
    assert (base.root / "data" / "a.root").resolve() in [path.resolve() for path in files]
    assert len(files) == 2
    base.config.write_text("def set_config(c): raise ValueError")
    (base.root / "data" / "own.yaml").write_text("changed")
    options = load_options(trial.config)
    moved = {"train_files", "init_from", "cache_folder"}
    assert options.model_dump(exclude=moved) == expected.model_dump(exclude=moved)
    assert find_file("data_config", options.data_config, trial.root).read_text() == "data/own.yaml"
    assert options.init_from is not None
    assert find_file("init_from", options.init_from, trial.root).read_text() == "output/models/best_model.pt"


def test_made_again_nothing_changes_and_another_project_stays(base: Project) -> None:
    trial = made(base)
    text = trial.config.read_text()
    assert made(base).config.read_text() == text
    trial.config.write_text(text + "\n")
    with pytest.raises(UsageError, match="is not a trial of this sweep, or was edited"):
        made(base)
    assert trial.config.read_text() == text + "\n"


HEAD = """
import phaze_ee
from phaze_ee.models.heads import ExitHead


@phaze_ee.register
class Own(ExitHead):
    name = "{name}"

    def forward(self, state):
        return state.pool("mean")

    def macs(self, particle_count_N):
        return particle_count_N
"""


def test_a_trial_has_copies_of_all_files_that_register_parts(base: Project) -> None:
    """The parts stay those of the sweep, whatever the base does with its configuration and its plug-ins."""
    (base.root / "heads.py").write_text(HEAD.format(name="of_plugin"), encoding="utf-8")
    choice = "    c.plugins = ['heads.py']\n    c.exit_head = ['of_plugin', 'of_config', 'linear']\n"
    base.config.write_text(HEAD.format(name="of_config") + CONFIG + choice, encoding="utf-8")
    with nothing_registered():
        trial = made(base)
    (base.root / "heads.py").unlink()
    base.config.write_text(CONFIG)
    with nothing_registered():
        options = load_options(trial.config)
        assert options.exit_head == ["of_plugin", "of_config", "linear"]
        assert options.plugins == ["heads.py", "config/base_config.py"]


def test_other_words_in_the_comments_of_a_trial_do_not_matter(base: Project) -> None:
    """A sweep that an older version began goes on: it wrote other descriptions, and knew no plug-ins."""
    trial = made(base)
    lines = trial.config.read_text(encoding="utf-8").split("\n")
    older = [f"    # older: {line[6:]}" if line.startswith("    # ") else line for line in lines]
    trial.config.write_text("\n".join(line for line in older if "c.plugins" not in line), encoding="utf-8")
    assert made(base) == trial
    trial.config.write_text(
        trial.config.read_text(encoding="utf-8").replace("c.lr = 0.0", "c.lr = 0.1"), encoding="utf-8"
    )
    with pytest.raises(UsageError, match="is not a trial of this sweep, or was edited"):
        made(base)
