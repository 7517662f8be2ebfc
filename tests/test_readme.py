"""What the README and the pages for users show must work: commands, configurations, paths, and explained messages."""

import re
import shlex
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from phaze_ee.cli import parse
from phaze_ee.config.load import load_options
from phaze_ee.config.options import NetworkOptions
from phaze_ee.config.template import DEMO_VALUES
from phaze_ee.data.loaders import evaluation_loader
from phaze_ee.data.schema import DataSchema
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.models.build import build_tagger
from phaze_ee.models.checkpoint import Checkpoint, save_checkpoint
from phaze_ee.modes.registry import MODES
from phaze_ee.workspace import Project
from tests.modes.exit_policies import write_policy

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
SHOWN = "\n".join(
    [README, *(PAGES[f"{page}.md"] for page in ("MODES", "DATA", "TRAINING", "PREDICTIONS", "FROM_WEAVER", "SCALING"))]
)
MOST_LINES = 180  # of the README: what a newcomer reads
SOURCE = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "phaze_ee").rglob("*.py")))


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", SHOWN, flags=re.DOTALL)


DIVIDES = next(text for text in blocks("python") if "all.root" in text)


def configurations() -> list[str]:
    return [text for text in blocks("python") if "def set_config(c)" in text]


def scripts() -> list[str]:
    return [text for text in blocks("python") if "def set_config(c)" not in text and text != DIVIDES]


def commands() -> list[str]:
    shown = "\n".join(blocks("bash")).replace("\\\n", " ").splitlines() + re.findall(r"`(phaze_ee -m [^`…]*)`", SHOWN)
    return [line for line in shown if re.search(r"phaze_ee .*-m |-m phaze_ee", line)]


def troubles() -> list[str]:
    cells = [line.split(" | ")[0] for line in PAGES["TROUBLESHOOTING.md"].splitlines() if line.startswith("| `")]
    return [message for cell in cells for message in re.findall(r"`([^`]+)`", cell)]


def test_there_is_something_to_check() -> None:
    assert len(commands()) >= 7
    assert len(configurations()) == 3
    assert len(scripts()) == 1
    assert len(troubles()) >= 12


@pytest.mark.parametrize("command", commands())
def test_commands_parse(command: str) -> None:
    arguments = re.split(r"(?:-m )?\bphaze_ee\b (?=-)", command, maxsplit=1)[1]
    assert parse(shlex.split(arguments, comments=True)).mode in MODES


def test_all_modes_are_explained() -> None:
    section = PAGES["MODES.md"].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == set(MODES)


def test_the_modes_that_a_batch_system_starts_again_are_named() -> None:
    section = PAGES["MODES.md"].partition("\n## ")[0]
    sentence = re.search(r"At SIGTERM, ([^.]+) end with\s+status 85", section)
    assert sentence is not None
    assert set(re.findall(r"`(\w+)`", sentence[1])) == {name for name, mode in MODES.items() if mode.preemptible}


def test_the_readme_is_short() -> None:
    assert README.count("\n") <= MOST_LINES


@pytest.mark.parametrize("page", PAGES)
def test_every_page_is_linked_from_the_readme(page: str) -> None:
    assert f"](docs/{page})" in README


@pytest.mark.parametrize("text", configurations())
def test_configurations_load(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    path.write_text(text, encoding="utf-8")
    assert load_options(path).train_files


@pytest.fixture
def demo_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """What mode demo leaves behind, with a small network that has learned nothing."""
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path))
    project = Project("demo", "sample_jets_1")
    for path in (project.config, project.best_model):
        path.parent.mkdir(parents=True)
    project.config.touch()
    schema = DataSchema.load(ROOT / DEMO_VALUES["data_config"])
    options = NetworkOptions(conv_params=[(2, (4,))] * 3, fc_params=[(8, 0.1)])
    tagger = build_tagger(options, ROOT / options.network_file, schema.weaver)
    save_checkpoint(project.best_model, Checkpoint(tagger, {}, schema.options, "hash", 0, {}))
    write_policy(project, ThresholdPolicy("confidence", [0.2, 0.2, 0.2]), classes=schema.class_names)
    return project


@pytest.mark.usefixtures("demo_project")
@pytest.mark.parametrize("text", scripts())
def test_the_python_example_runs(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(text, "README.md", "exec"), {})
    jets_that_left = re.search(r"jets that left at each exit: \[(.*)\]", capsys.readouterr().out)
    assert jets_that_left is not None
    counts = [int(count) for count in jets_that_left[1].split(",")]
    assert (len(counts), sum(counts)) == (4, 6500)


def test_the_data_yaml_reads_files_as_described(tmp_path: Path) -> None:
    text, *_ = blocks("yaml")  # the README's
    (tmp_path / "my_jets.yaml").write_text(text, encoding="utf-8")
    rng = np.random.default_rng(0)
    particles = {name: rng.uniform(1, 2, (6, 8)).astype(np.float32) for name in ("p_pt", "p_eta", "p_phi")}
    is_top_N = np.arange(6) % 2
    labels = {"is_qcd": 1 - is_top_N, "is_top": is_top_N}
    with uproot.recreate(tmp_path / "jets.root") as file:
        file.mktree("Events", dict.fromkeys(particles, ("f4", (8,))) | {name: v.dtype for name, v in labels.items()})
        file["Events"].extend(particles | labels)
    files = [tmp_path / "jets.root"]
    schema = DataSchema.load(tmp_path / "my_jets.yaml").resolve(files)
    (batch,) = evaluation_loader(schema, files, batch_size=6)
    assert batch.inputs.padded().features.shape == (6, 3, 100)
    assert batch.label_N.tolist() == is_top_N.tolist()


def test_one_file_is_divided_and_loses_no_jet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    jets = {"part_pt": ak.unflatten(rng.uniform(1, 2, 60).astype(np.float32), [5, 0, 7] * 5), "jet_pt": np.arange(15)}
    with uproot.recreate("all.root") as file:
        file["tree"] = jets
    exec(compile(DIVIDES, "DATA.md", "exec"), {})
    names = ("train", "val", "calibration", "test")
    parts = [uproot.open(f"{name}.root:tree").arrays() for name in names]
    assert list(map(len, parts)) == [9, 2, 2, 2]
    together = ak.concatenate(parts)
    for name, column in jets.items():
        assert ak.array_equal(together[name], column, dtype_exact=False)


@pytest.mark.parametrize("message", [message for message in troubles() if message != "CUDA out of memory"])
def test_explained_messages_exist(message: str) -> None:
    for part in re.split(r"'[^']*'|…", message):
        assert part.strip() in SOURCE


def test_paths_exist() -> None:
    scripts = re.findall(r"shell_scripts/\w+\.sh", SHOWN)
    configs = re.findall(r"data_configs/\w+\.yaml", SHOWN)
    tree = PAGES["ARCHITECTURE.md"].partition("## Folders")[2]
    folders, parent = [], ""
    for indent, name in re.findall(r"^( *)(\w+)/  +", tree, re.MULTILINE):
        parent = parent if indent else name
        folders.append(f"{parent}/{name}" if indent else name)
    assert len(folders) >= 15
    for path in {*scripts, *configs, *folders}:
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", ["README.md", *PAGES])
def test_links_between_pages_lead_somewhere(page: str) -> None:
    folder, text = (ROOT, README) if page == "README.md" else (ROOT / "docs", PAGES[page])
    for link, anchor in re.findall(r"\]\(([\w./-]*)(?:#([\w-]*))?\)", text):
        target = folder / link if link else folder / page
        assert target.exists(), link
        if anchor:
            titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, anchor
