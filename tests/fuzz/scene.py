"""A small project that has been through all modes, with its jets in every format. Attempts damage copies of it."""

import os
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import uproot

from tests.fuzz import children

PROJECT = ("-p", "Tops", "small")
STOPPED = ("-p", "Tops", "stopped")
OUTPUT = "ws/Tops/small/output"
CONFIG = "ws/Tops/small/config/small_config.py"
YAML = "two_classes.yaml"
JETS = 120
FORMATS = ("jets.root", "jets.lzma.root", "jets.lz4.root", "jets.parquet", "jets.h5")

_DATA_CONFIG = """\
treename: Events
selection: p_count > 0
inputs:
  pf_points: {length: 8, vars: [p_eta, p_phi]}
  pf_features: {length: 8, vars: [p_eta, p_phi, [p_logpt, 0.1, 0.9], [p_pt, 1, 0.5, -3, 3]]}
  pf_mask: {length: 8, vars: [p_mask]}
new_variables:
  p_mask: ak.ones_like(p_pt)
  p_logpt: np.log(p_pt)
  p_count: ak.num(p_pt)
preprocess: {method: manual}
labels: {type: simple, value: [is_qcd, is_top]}
observers: [jet_id, jet_mass]
"""
_CONFIG = """\
def set_config(c):
    c.data_config = "two_classes.yaml"
    c.train_files = ["jets.root"]
    c.val_files = ["val.root"]
    c.test_files = ["jets.root"]
    c.calibration_files = ["more.root"]
    c.conv_params = [(4, (8, 8)), (4, (8, 8))]
    c.fc_params = [(8, 0.1)]
    c.exit_head = "linear"
    c.exit_target = "budget"
    c.beta_max = [1.0, 1.0]
    c.epochs = 2
    c.zero_epochs = 0
    c.seed = 3
    c.batch_size = 16
    c.num_workers = 0
    c.use_cache = "never"
    c.resume_interval = 1
    c.tensorboard = False
    c.device = "cpu"
"""


def jets(seed: int) -> dict[str, Any]:
    """Return the columns of some jets. Half of the numbers repeat, so that every compression finds something to do."""
    rng = np.random.default_rng(seed)
    count_N = rng.integers(1, 13, JETS)
    columns: dict[str, Any] = {}
    for name in ("p_eta", "p_phi", "p_pt"):
        values_V = np.round(rng.normal(size=count_N.sum()), 1).astype(np.float32)
        columns[name] = ak.unflatten(np.abs(values_V) + 0.1 if name == "p_pt" else values_V, count_N)
    is_top_N = np.arange(JETS) % 2
    columns["p_eta"] = columns["p_eta"] + is_top_N.astype(np.float32)
    return columns | {
        "is_qcd": (is_top_N == 0).astype(np.int32),
        "is_top": is_top_N.astype(np.int32),
        "jet_id": np.arange(JETS),
        "jet_mass": np.repeat(np.round(rng.uniform(50, 200, JETS // 5)), 5).astype(np.float32),
    }


def write_root(path: Path, columns: dict[str, Any], compression: Any = None) -> None:
    """Write a TTree with two baskets per branch. Compression makes all smaller: others have no checksum."""
    types = {name: str(ak.type(column).content) for name, column in columns.items()}
    half = len(next(iter(columns.values()))) // 2
    with uproot.recreate(path, compression=compression or uproot.ZLIB(1)) as file:
        tree = file.mktree("Events", types, counter_name=lambda _: "np")
        tree.extend({name: column[:half] for name, column in columns.items()})
        tree.extend({name: column[half:] for name, column in columns.items()})
    with uproot.open(path) as file:
        baskets = [branch.basket(index) for branch in file["Events"].branches for index in range(branch.num_baskets)]
    assert all(basket.compressed_bytes < basket.uncompressed_bytes for basket in baskets)


def write_parquet(path: Path, columns: dict[str, Any]) -> None:
    """Write a parquet file with a checksum for each page."""
    table = pyarrow.table({name: pyarrow.array(ak.to_list(column)) for name, column in columns.items()})
    fields = [
        pyarrow.field(name, pyarrow.list_(pyarrow.float32()) if name.startswith("p_") else table[name].type)
        for name in table.column_names
    ]
    pyarrow.parquet.write_table(
        table.cast(pyarrow.schema(fields)), path, row_group_size=JETS // 2, write_page_checksum=True
    )


def write_hdf5(path: Path, columns: dict[str, Any]) -> None:
    """Write an HDF5 file with lists of numbers, and a checksum for each chunk of the plain columns."""
    with h5py.File(path, "w") as file:
        for name, column in columns.items():
            if name.startswith("p_"):
                lists = file.create_dataset(name, (len(column),), dtype=h5py.vlen_dtype(np.float32))
                for row, values in enumerate(column):
                    lists[row] = ak.to_numpy(values)
            else:
                file.create_dataset(name, data=np.asarray(column), chunks=(JETS // 2,), fletcher32=True)


def build(folder: Path) -> None:
    """Write the scene ``folder/base``: files of jets, a project after all modes, and one that was interrupted.

    Raises:
        RuntimeError: a command failed.
    """
    children.start()
    live = folder / "scene"
    live.mkdir(parents=True)
    for name, seed in (("jets.root", 1), ("val.root", 2), ("more.root", 3)):
        write_root(live / name, jets(seed))
    write_root(live / "jets.lzma.root", jets(1), uproot.LZMA(1))
    write_root(live / "jets.lz4.root", jets(1), uproot.LZ4(1))
    write_parquet(live / "jets.parquet", jets(1))
    write_hdf5(live / "jets.h5", jets(1))
    (live / YAML).write_text(_DATA_CONFIG, encoding="utf-8")
    for name in ("small", "stopped"):
        config = live / "ws" / "Tops" / name / "config" / f"{name}_config.py"
        config.parent.mkdir(parents=True)
        config.write_text(_CONFIG, encoding="utf-8")
    for mode in ("train", "calibrate", "evaluate", "benchmark", "convert"):
        _succeed(folder, mode, *PROJECT)
    _succeed(folder, "predict", *PROJECT, "--output", "out")
    _succeed(folder, "train", *STOPPED, wrap=_interrupted, status=85)
    live.rename(folder / "base")


def edit(scene: Path, edits: Mapping[str, str]) -> None:
    """Replace texts of the project's configuration."""
    config = scene / CONFIG
    text = config.read_text(encoding="utf-8")
    for old, new in edits.items():
        text = text.replace(old, new)
    if edits:
        config.write_text(text, encoding="utf-8")


def restore(folder: Path) -> Path:
    """Replace the scene by a copy of ``base``, with the same times; return it."""
    live = folder / "scene"
    if live.exists():
        for path in live.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)
        shutil.rmtree(live)
    shutil.copytree(folder / "base", live)
    return live


def _succeed(folder: Path, *words: str, wrap: Any = None, status: int = 0) -> None:
    done = children.run(["-m", *words], folder, wrap)
    if done.status != status:
        raise RuntimeError(f"{' '.join(words)} ended with status {done.status}: {done.err}")


def _interrupted(command: Callable[[], int]) -> int:
    """Run a training that the system stops in its second epoch."""
    from phaze_ee.training.module import TaggerModule
    from tests.end_to_end.dying import at_call

    with pytest.MonkeyPatch.context() as patch:
        at_call(patch, TaggerModule, "training_step", 12, lambda: os.kill(os.getpid(), signal.SIGTERM))
        return command()
