"""The H->bb and QCD jets of mode demo, which are stored as integers, and the data YAML that reads them."""

import json
from functools import cache
from pathlib import Path

import awkward
import numpy as np
import numpy.typing as npt
import pytest
import uproot

import phaze_ee
from benchmarks.sample_jets import pack
from phaze_ee.config.options import Options
from phaze_ee.config.template import DEMO_VALUES
from phaze_ee.data.files import expand_patterns
from phaze_ee.data.loaders import evaluation_loader
from phaze_ee.data.schema import DataSchema
from phaze_ee.types import JetBatch, RaggedJets
from phaze_ee.workspace import find_file

FOLDER = Path(phaze_ee.__file__).parent / "sample_jets"
JETS = {"train": (2750, 2750), "val": (1500, 3000), "test": (4000, 2500)}
CONFIG = find_file("data_config", DEMO_VALUES["data_config"], None)
COLUMNS = list(DataSchema.load(CONFIG).weaver.input_dicts["pf_features"])


@cache
def batch(stem: str) -> JetBatch:
    """The first thousand test jets of a class, as mode demo reads them."""
    return read(CONFIG, FOLDER / "hbb" / "test" / f"{stem}_000.root")


def read(config: Path, file: Path) -> JetBatch:
    return next(iter(evaluation_loader(DataSchema.load(config).resolve([file]), [file], batch_size=1000)))


def ragged(jets: JetBatch) -> RaggedJets:
    assert isinstance(jets.inputs, RaggedJets)
    return jets.inputs


def column(jets: JetBatch, name: str) -> npt.NDArray[np.float32]:
    values: npt.NDArray[np.float32] = ragged(jets).features_VC[:, COLUMNS.index(name)].numpy()
    return values


@pytest.mark.parametrize("split", JETS)
def test_the_demo_reads_these_jets_and_each_split_has_its_own_seed(split: str) -> None:
    options = Options(**DEMO_VALUES)
    files = expand_patterns("", getattr(options, f"{split}_files"), FOLDER)
    entries = json.loads((FOLDER / "hbb" / split / "generation.json").read_text())["files"]
    counts = tuple(uproot.open(f"{file}:tree").num_entries for file in sorted(files, reverse=True))
    assert counts == JETS[split] == tuple(entries[file.name]["jets"] for file in sorted(files, reverse=True))
    assert f"--seed {entries['HToBB_000.root']['seed']}`" in (FOLDER / "README.md").read_text()


@pytest.mark.parametrize(("stem", "label"), [("ZJetsToNuNu", 0), ("HToBB", 1)])
def test_labels_and_observers(stem: str, label: int) -> None:
    jets = batch(stem)
    assert set(jets.label_N.tolist()) == {label}
    pt_N = jets.observers["jet_pt"].astype(np.float64)
    assert ((pt_N > 500) & (pt_N < 1000)).all()
    np.testing.assert_array_equal(jets.observers["jet_nparticles"], ragged(jets).particle_count_N.numpy())


def test_the_yaml_gives_the_features_of_the_jets_that_were_packed(tmp_path: Path) -> None:
    """Of the bundled jets in the schema of JetClass, with the steps that the README states."""
    pack(FOLDER / "val", tmp_path / "packed", {"HToBB": 50})
    before = read(CONFIG.with_name("JetClass_ParT_full.yaml"), FOLDER / "val" / "HToBB_000.root")
    after = read(CONFIG, tmp_path / "packed" / "HToBB_000.root")
    assert (len(after), after.label_N.tolist()) == (50, [1] * 50)
    particles = len(ragged(after).features_VC)
    exact = [index for index, name in enumerate(COLUMNS) if name.startswith(("part_is", "part_charge"))]
    first, second = ragged(before).features_VC[:particles].numpy(), ragged(after).features_VC.numpy()
    np.testing.assert_array_equal(first[:, exact], second[:, exact])
    # Energies differ by the mass of slow particles; the others by half a step, or 3 % of an error or a large distance.
    heavy = [COLUMNS.index(name) for name in ("part_e_log", "part_logerel")]
    assert np.abs(first[:, heavy] - second[:, heavy]).mean() < 0.002
    others = np.delete(np.arange(len(COLUMNS)), heavy)
    np.testing.assert_allclose(second[:, others], first[:, others], rtol=0.035, atol=0.003)
    assert np.abs(second - first).max() > 1e-5
    command = json.loads((tmp_path / "packed" / "generation.json").read_text())["files"]["HToBB_000.root"]["command"]
    assert command.startswith("phaze_ee -m generate --output packed --jets 50 --seed 102 ")


def test_momenta_add_up_to_the_jet() -> None:
    tree = uproot.open(f"{FOLDER / 'hbb' / 'test' / 'HToBB_000.root'}:tree").arrays()
    pt, angle = np.exp(tree.part_logpt / 200), tree.jet_phi + tree.part_phi / 2000
    total = np.hypot(awkward.sum(pt * np.cos(angle), axis=1), awkward.sum(pt * np.sin(angle), axis=1))
    np.testing.assert_allclose(total, tree.jet_pt, rtol=2e-3)


def test_heavy_quarks_leave_displaced_tracks() -> None:
    def displaced(stem: str) -> float:
        distance, error = (column(batch(stem), name) for name in ("part_d0tanh", "part_d0err"))
        return float(((np.abs(distance) > np.tanh(5 * error)) & (error > 0)).sum() / len(batch(stem)))

    assert displaced("HToBB") > 2 * displaced("ZJetsToNuNu")
