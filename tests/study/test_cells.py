"""The study: cells are computed once, killed runs go on, and jets are used for one thing only."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest

from benchmarks.drift import drop_particles
from benchmarks.study.cells import ROOT, Cell, CellStore, in_turn, run, write_record
from benchmarks.study.jets import GENERATED, StudyJets
from benchmarks.study.project import can_go_on
from phaze_ee.errors import UsageError


def store(folder: Path, jets_hash: str = "abc", rules: int = 1, kept: Path | None = None) -> CellStore:
    return CellStore(folder, {"test": 10}, jets_hash, rules, kept)


def cell(name: str, made: list[str], question: int = 1, **parameters: Any) -> Cell:
    def make() -> str:
        made.append(name)
        return name

    return Cell(question, name, {"seed": 0, **parameters}, make)


def quiet(_: str) -> None:
    pass


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    made: list[str] = []

    def killed() -> str:
        raise KeyboardInterrupt

    first, second = cell("frozen/a", made), cell("frozen/b", made)
    with pytest.raises(KeyboardInterrupt):
        run([first, Cell(1, "frozen/b", second.parameters, killed)], store(tmp_path), 60, quiet)
    assert run([first, second], store(tmp_path), 60, quiet) == 0
    assert made == ["frozen/a", "frozen/b"]


def test_a_cell_of_other_parameters_jets_or_rules_is_computed_again(tmp_path: Path) -> None:
    made: list[str] = []
    run([cell("a", made, epochs=(8, 9))], store(tmp_path), 60, quiet)
    run([cell("a", made, epochs=(8, 9))], store(tmp_path), 60, quiet)
    assert made == ["a"]
    run([cell("a", made, epochs=(8, 10))], store(tmp_path), 60, quiet)
    run([cell("a", made, epochs=(8, 10))], store(tmp_path, "abd"), 60, quiet)
    run([cell("a", made, epochs=(8, 10))], store(tmp_path, "abd", rules=2), 60, quiet)
    assert made == ["a"] * 4


def test_cells_that_the_project_keeps_are_not_computed_again(tmp_path: Path) -> None:
    made: list[str] = []
    first, other = cell("a", made), cell("a", made, epochs=9)
    run([first], store(tmp_path / "there"), 60, quiet)
    record = store(tmp_path / "there").read(first)
    assert record is not None
    for _ in range(2):
        write_record(record, tmp_path / "kept", compressed=True)
    here = store(tmp_path / "here", kept=tmp_path / "kept")
    run([first], here, 60, quiet)
    assert made == ["a"]
    run([other], here, 60, quiet)  # of other parameters than the one that is kept
    assert made == ["a"] * 2
    assert here.read(other)["parameters"]["epochs"] == 9  # type: ignore[index]


def test_a_record_holds_what_the_result_depends_on(tmp_path: Path) -> None:
    run([cell("deep/a", [])], store(tmp_path), 60, quiet)
    record = json.loads((tmp_path / "q1" / "deep" / "a.json").read_text())
    assert record["result"] == "deep/a"
    assert record["jets_hash"] == "abc"
    assert {"commit", "versions", "parameters", "jets", "seconds"} <= set(record)


def test_no_cell_starts_after_the_time(tmp_path: Path) -> None:
    made: list[str] = []
    assert run([cell(name, made) for name in "abc"], store(tmp_path), -1.0, quiet) == 3
    assert made == []


def test_every_question_has_a_first_answer_early() -> None:
    questions = [[cell(name, [], number) for name in "abc"[:count]] for number, count in ((1, 3), (5, 1), (2, 2))]
    assert [(one.question, one.name) for one in in_turn(questions)] == [
        (1, "a"), (5, "a"), (2, "a"), (1, "b"), (2, "b"), (1, "c"),
    ]  # fmt: skip


def test_no_two_chunks_have_the_same_seed(tmp_path: Path) -> None:
    jets = StudyJets.generated(tmp_path, "full")
    seeds = [GENERATED[chunk.sample].first_seed + chunk.index for chunk in jets.missing]
    assert len(seeds) == len(set(seeds)) == 80


def test_files_that_lie_ready_are_divided_without_overlap(tmp_path: Path, sample_jets: Path) -> None:
    jets = StudyJets.small(tmp_path, [sample_jets])
    for chunk in jets.missing:
        chunk.folder.mkdir(parents=True)
    parts = ("train", "val", "calibration", "test")
    rows = {name: ak.concatenate([columns(path) for path in jets.files[name]]) for name in parts}
    assert {name: len(values) for name, values in rows.items()} == {
        "train": 96, "val": 12, "calibration": 48, "test": 84,
    }  # fmt: skip
    every = np.concatenate([ak.to_numpy(values) for values in rows.values()])
    assert len(np.unique(every)) == 240


def test_a_size_without_its_jets_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--jets FOLDER"):
        StudyJets.small(tmp_path, [])


def test_only_charged_particles_are_dropped_as_tracks() -> None:
    rng = np.random.default_rng(0)
    counts = np.full(200, 50)
    charge = ak.unflatten(rng.integers(-1, 2, 10_000), counts)
    names = ("part_px", "part_py", "part_energy")
    jets = ak.Array({"part_charge": charge, **{name: ak.ones_like(charge) * 1.0 for name in names}})
    charged, neutral = (ak.sum(chosen) for chosen in (charge != 0, charge == 0))
    kept = partial(drop_particles, share=0.1, charged=True)(jets, rng).part_charge
    assert ak.sum(kept == 0) == neutral
    assert ak.sum(kept != 0) / charged == pytest.approx(0.9, abs=0.02)


def columns(path: Path) -> ak.Array:
    import uproot

    return uproot.open(path)["tree"]["jet_pt"].array()


@pytest.fixture
def sample_jets(tmp_path: Path) -> Path:
    """Two classes of the bundled test jets, 120 of each."""
    bundled = Path(__file__).parents[2] / "phaze_ee" / "sample_jets" / "test"
    folder = tmp_path / "ready"
    folder.mkdir()
    for stem in ("HToBB", "TTBar"):
        (folder / f"{stem}_000.root").symlink_to(bundled / f"{stem}_000.root")
    return folder


@pytest.mark.parametrize(
    ("options", "finished", "checkout", "goes_on"),
    [
        ("epochs 4", True, "another", True),
        ("epochs 4", False, str(ROOT), True),
        ("epochs 4", False, "another", False),
        ("epochs 5", True, str(ROOT), False),
    ],
)
def test_a_training_goes_on_in_the_checkout_that_began_it(
    options: str, finished: bool, checkout: str, goes_on: bool
) -> None:
    record = {"made_of": {"options": options}, "finished": finished, "checkout": checkout}
    assert can_go_on(record, {"options": "epochs 4"}) == goes_on
    assert not can_go_on({}, {"options": "epochs 4"})
