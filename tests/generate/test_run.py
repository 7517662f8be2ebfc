import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import awkward
import pytest
import uproot

from phaze_ee.errors import UsageError
from phaze_ee.generate import GeneratorOptions, Progress, generate_files
from phaze_ee.generate.processes import PROCESSES
from phaze_ee.generate.run import plan, require_generator

JETS = 12


def options(folder: Path, **changes: Any) -> GeneratorOptions:
    return replace(
        GeneratorOptions(folder, jets_per_class=JETS, classes=("HToBB",), jets_per_file=8, seed=4, workers=2), **changes
    )


def read(path: Path) -> awkward.Array:
    return uproot.open(f"{path}:tree").arrays()


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[Progress]]:
    steps: list[Progress] = []
    return generate_files(options(tmp_path_factory.mktemp("generated")), steps.append), steps


def test_files_are_named_as_jetclass_names_them(generated: tuple[list[Path], list[Progress]]) -> None:
    files, _ = generated
    assert [file.name for file in files] == ["HToBB_000.root", "HToBB_001.root"]
    assert [len(read(file)) for file in files] == [8, 4]


def test_progress_ends_at_the_total(generated: tuple[list[Path], list[Progress]]) -> None:
    _, steps = generated
    done = [step.jets_done for step in steps]
    assert done == sorted(done)
    assert steps[0] == Progress(0, JETS)
    assert steps[-1] == Progress(JETS, JETS)


@pytest.fixture(scope="module")
def with_vertices(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return generate_files(options(tmp_path_factory.mktemp("alone"), workers=1, vertices=True), lambda _: None)


def test_jets_depend_neither_on_the_number_of_workers_nor_on_vertices(
    generated: tuple[list[Path], list[Progress]], with_vertices: list[Path]
) -> None:
    files, _ = generated
    for first, second in zip(files, with_vertices, strict=True):
        jets = read(first)
        assert awkward.array_equal(jets, read(second)[jets.fields])
    assert not awkward.array_equal(read(files[0]).jet_pt[:4], read(files[1]).jet_pt)


def test_bottom_jets_have_secondary_vertices(
    generated: tuple[list[Path], list[Progress]], with_vertices: list[Path]
) -> None:
    jets = awkward.concatenate([read(path) for path in with_vertices])
    added = set(jets.fields) - set(read(generated[0][0]).fields)
    names = ("px", "py", "pz", "energy", "mass", "deta", "dphi", "dxy", "dxyerr", "d3d", "d3derr", "costheta")
    assert added == {"nsv", "sv_ntracks", *(f"sv_{name}" for name in names)}
    assert awkward.mean(awkward.num(jets.sv_mass)) > 1
    assert awkward.all(awkward.num(jets.sv_mass) == jets.nsv)
    distance = awkward.flatten((jets.sv_deta**2 + jets.sv_dphi**2) ** 0.5)
    assert awkward.max(distance) < 0.8
    assert awkward.all(jets.sv_ntracks >= 2)
    assert json.loads((with_vertices[0].parent / "generation.json").read_text())["files"]["HToBB_000.root"][
        "command"
    ].endswith("--vertices")


def test_record_says_how_the_files_were_made(generated: tuple[list[Path], list[Progress]]) -> None:
    files, _ = generated
    entries = json.loads((files[0].parent / "generation.json").read_text())["files"]
    assert set(entries) == {file.name for file in files}
    entry = entries["HToBB_001.root"]
    assert (entry["jets"], entry["index"], entry["seed"], entry["mode"]) == (4, 1, 4, "reference")
    assert set(entry["versions"]) == {"phaze-ee", "pythia8mc", "fastjet", "numpy"}
    assert entry["command"].startswith("phaze_ee -m generate")


def test_nothing_else_is_left_in_the_folder(generated: tuple[list[Path], list[Progress]]) -> None:
    files, _ = generated
    assert {path.name for path in files[0].parent.iterdir()} == {*(file.name for file in files), "generation.json"}


def test_existing_file_is_refused_and_untouched(tmp_path: Path) -> None:
    existing = tmp_path / "HToBB_001.root"
    existing.write_bytes(b"precious")
    with pytest.raises(UsageError, match=r"HToBB_001\.root exists; choose another --output, or give --overwrite"):
        generate_files(options(tmp_path), lambda _: None)
    assert existing.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [existing]


@pytest.mark.parametrize("folder", ["taken", "taken/more"])
def test_a_folder_that_is_a_file_is_refused(tmp_path: Path, folder: str) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(UsageError, match=r"taken is a file; choose another --output$"):
        generate_files(options(tmp_path / folder), lambda progress: None)


def test_fast_mode_overlays_and_overwrites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phaze_ee.generate.underlying_event.LIBRARY_EVENTS", 10)
    (tmp_path / "HToBB_000.root").write_bytes(b"old")
    wanted = options(tmp_path, mode="fast", overwrite=True, workers=1, jets_per_file=JETS)
    (file,) = generate_files(wanted, lambda _: None)
    assert len(read(file)) == JETS
    assert {path.name for path in tmp_path.iterdir()} == {"HToBB_000.root", "generation.json"}


@pytest.mark.parametrize("text", ["not JSON", "[]", '{"files": 5}', "[" * 100_000])
def test_broken_record_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "generation.json").write_text(text)
    with pytest.raises(UsageError, match=r"generation\.json is not a record"):
        generate_files(options(tmp_path), lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == ["generation.json"]


def test_missing_extra_names_the_command_that_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    known = importlib.util.find_spec
    monkeypatch.setattr("phaze_ee.generate.run.find_spec", lambda name: None if name == "pythia8mc" else known(name))
    with pytest.raises(UsageError, match=r'needs pythia8mc, .* pip install "\.\[generate\]"') as refusal:
        require_generator()
    assert "\n" not in str(refusal.value)


def test_every_file_has_its_own_seed(tmp_path: Path) -> None:
    first, second = (GeneratorOptions(tmp_path, jets_per_class=50, jets_per_file=20, seed=seed) for seed in (1, 2))
    tasks = plan(first)
    assert len(tasks) == 3 * len(PROCESSES)
    assert len({task.entropy for task in [*tasks, *plan(second)]}) == 2 * len(tasks)
    assert sum(task.jets for task in tasks) == 50 * len(PROCESSES)


def test_settings_of_pythia_change_the_jets(generated: tuple[list[Path], list[Progress]], tmp_path: Path) -> None:
    files = generate_files(options(tmp_path, workers=1, pythia=("PartonLevel:FSR = off",)), lambda _: None)
    particles, usual = (
        awkward.mean(awkward.concatenate([read(path).jet_nparticles for path in some]))
        for some in (files, generated[0])
    )
    assert particles < 0.8 * usual
    record = json.loads((tmp_path / "generation.json").read_text())["files"]["HToBB_000.root"]
    assert record["command"].endswith(" --pythia 'PartonLevel:FSR = off'")


def test_a_setting_that_pythia_does_not_know_is_refused_before_any_jet(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"refuses --pythia 'TimeShower:alpha = 1'; write Name:of = value"):
        generate_files(options(tmp_path, pythia=("TimeShower:alpha = 1",)), lambda _: None)
    assert not list(tmp_path.iterdir())
