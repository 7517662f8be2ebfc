"""The jets that come with the package: schema, selection and physics."""

import json
from functools import cache
from pathlib import Path

import awkward
import numpy as np
import pytest
import uproot

import phaze_ee
from phaze_ee.generate.processes import LABELS, PROCESSES

FOLDER = Path(phaze_ee.__file__).parent / "sample_jets"
SPLITS = {"train": 360, "val": 120, "test": 120}
PARTICLE_TYPES = {
    **dict.fromkeys(["px", "py", "pz", "energy", "deta", "dphi"], "float32"),
    **dict.fromkeys(["d0val", "d0err", "dzval", "dzerr", "charge"], "float32"),
    **dict.fromkeys(["isChargedHadron", "isNeutralHadron", "isPhoton", "isElectron", "isMuon"], "int32"),
}
JET_TYPES = {
    "label_QCD": "float32",
    **dict.fromkeys([f"label_{name}" for name in ("Hbb", "Hcc", "Hgg", "H4q", "Hqql")], "bool"),
    **dict.fromkeys([f"label_{name}" for name in ("Zqq", "Wqq", "Tbqq", "Tbl")], "int32"),
    **dict.fromkeys([f"jet_{name}" for name in ("pt", "eta", "phi", "energy", "nparticles", "sdmass")], "float32"),
    **dict.fromkeys([f"jet_tau{order}" for order in (1, 2, 3, 4)], "float32"),
    **dict.fromkeys([f"aux_genpart_{name}" for name in ("eta", "phi", "pid", "pt")], "float32"),
    "aux_truth_match": "float32",
}


@cache
def jets(stem: str) -> awkward.Array:
    return awkward.concatenate([uproot.open(f"{FOLDER / split / stem}_000.root:tree").arrays() for split in SPLITS])


@pytest.mark.parametrize("split", SPLITS)
def test_every_split_is_complete_and_has_its_own_seed(split: str) -> None:
    entries = json.loads((FOLDER / split / "generation.json").read_text())["files"]
    assert set(entries) == {f"{stem}_000.root" for stem in PROCESSES}
    assert {entry["jets"] for entry in entries.values()} == {SPLITS[split]}
    assert {entry["mode"] for entry in entries.values()} == {"reference"}
    assert f"--seed {entries['HToBB_000.root']['seed']}`" in (FOLDER / "README.md").read_text()


def test_the_sample_is_small() -> None:
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) < 15e6


@pytest.mark.parametrize("stem", PROCESSES)
def test_names_and_types_are_those_of_jetclass(stem: str) -> None:
    tree = uproot.open(f"{FOLDER / 'test' / stem}_000.root:tree")
    arrays = tree.arrays(entry_stop=2)
    found = {name: str(arrays[name].type.content).rsplit("* ")[-1] for name in tree.keys()}  # noqa: SIM118
    assert found.pop("npart") == "int32"
    assert found == {**{f"part_{name}": kind for name, kind in PARTICLE_TYPES.items()}, **JET_TYPES}


@pytest.mark.parametrize(("stem", "label"), [(process.stem, process.label) for process in PROCESSES.values()])
def test_labels_are_one_hot(stem: str, label: str) -> None:
    columns = np.stack([awkward.to_numpy(jets(stem)[f"label_{name}"]).astype(int) for name in LABELS], axis=1)
    np.testing.assert_array_equal(columns.sum(axis=1), 1)
    np.testing.assert_array_equal(columns[:, LABELS.index(label)], 1)


@pytest.mark.parametrize("stem", PROCESSES)
def test_jets_lie_in_the_window_and_are_the_sum_of_their_particles(stem: str) -> None:
    table = jets(stem)
    assert awkward.all((table.jet_pt > 500) & (table.jet_pt < 1000) & (abs(table.jet_eta) < 2))
    assert awkward.all(awkward.num(table.part_px) == table.jet_nparticles)
    pt = np.hypot(awkward.sum(table.part_px, axis=1), awkward.sum(table.part_py, axis=1))
    np.testing.assert_allclose(pt, table.jet_pt, rtol=1e-4)
    particle_pt = np.hypot(table.part_px, table.part_py)
    assert awkward.all(particle_pt[:, :-1] >= particle_pt[:, 1:] * (1 - 1e-5))
    kinds = sum(table[f"part_{name}"] for name in PARTICLE_TYPES if name.startswith("is"))
    assert awkward.all(kinds == 1)


@pytest.mark.parametrize("stem", PROCESSES)
def test_all_values_are_finite(stem: str) -> None:
    for name in jets(stem).fields:
        assert np.isfinite(awkward.to_numpy(awkward.flatten(jets(stem)[name], axis=None))).all(), name


# The fullest window of 16 GeV. Soft drop and lost neutrinos pull it below the pole masses 125.0, 91.2, 80.4 and 172.5.
@pytest.mark.parametrize(
    ("stem", "pole", "below"),
    [
        ("HToBB", 125.0, 16.0),
        ("HToCC", 125.0, 12.0),
        ("HToGG", 125.0, 12.0),
        ("HToWW4Q", 125.0, 12.0),
        ("ZToQQ", 91.2, 10.0),
        ("WToQQ", 80.4, 8.0),
        ("TTBar", 172.5, 12.0),
    ],
)
def test_groomed_mass_peaks_at_the_resonance(stem: str, pole: float, below: float) -> None:
    mass = awkward.to_numpy(jets(stem).jet_sdmass)
    starts = np.arange(20.0, 220.0)
    counts = ((mass[:, None] > starts) & (mass[:, None] < starts + 16)).sum(axis=0)
    assert pole - below < starts[counts.argmax()] + 8 < pole + 3
    assert counts.max() > 0.3 * len(mass)


def test_multiplicities_are_ordered_as_in_jetclass() -> None:
    mean = {stem: float(awkward.mean(jets(stem).jet_nparticles)) for stem in PROCESSES}
    # 41.5 is the mean of 2,048 real H->bb jets; gluons radiate most, a lepton and a neutrino leave least.
    assert mean["HToBB"] == pytest.approx(41.5, abs=2)
    assert max(mean, key=lambda stem: mean[stem]) == "HToGG"
    assert min(mean, key=lambda stem: mean[stem]) in ("TTBarLep", "HToWW2Q1L")


def test_heavy_quarks_leave_displaced_tracks() -> None:
    def displaced(stem: str) -> float:
        table = jets(stem)
        significance = abs(table.part_d0val) / awkward.where(table.part_d0err > 0, table.part_d0err, 1.0)
        stiff = (np.hypot(table.part_px, table.part_py) > 2) & (table.part_d0err > 0)
        return float(awkward.mean(awkward.sum(stiff & (significance > 5), axis=1)))

    assert displaced("HToBB") > 1.8 * displaced("HToCC") > 1.8 * displaced("ZJetsToNuNu")


def test_leptonic_tops_hold_one_hard_lepton() -> None:
    table = jets("TTBarLep")
    leptons = (table.part_isElectron + table.part_isMuon) * np.hypot(table.part_px, table.part_py)
    assert awkward.mean(awkward.max(leptons, axis=1) > 20) > 0.9
    assert set(np.unique(awkward.to_numpy(table.aux_truth_match))) == {15, 16}
