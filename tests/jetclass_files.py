"""Writes small files in the JetClass schema, for tests."""

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt
import uproot

LABELS = (
    "label_QCD", "label_Hbb", "label_Hcc", "label_Hgg", "label_H4q",
    "label_Hqql", "label_Zqq", "label_Wqq", "label_Tbqq", "label_Tbl",
)  # fmt: skip
FLAGS = ("isChargedHadron", "isNeutralHadron", "isPhoton", "isElectron", "isMuon")
UNKNOWN_PARTICLE = ("d0val", "d0err", "dzval", "dzerr", "charge", *FLAGS)
UNKNOWN_JET = ("jet_sdmass", "jet_tau1", "jet_tau2", "jet_tau3", "jet_tau4")


def jetclass_columns(
    vectors: npt.NDArray[Any], points: npt.NDArray[Any], label: npt.NDArray[Any]
) -> dict[str, ak.Array | npt.NDArray[Any]]:
    """Return the columns of the JetClass schema; what the arguments do not tell is zero.

    Args:
        vectors: (N, 4, P) px, py, pz, energy in GeV, zero-padded.
        points: (N, 2, P) delta eta and delta phi to the jet axis.
        label: (N,) index of the class in the order of ``LABELS``.
    """
    real = vectors[:, 3] > 0
    count = real.sum(axis=1)

    def jagged(padded: npt.NDArray[Any]) -> ak.Array:
        return ak.unflatten(padded[real].astype(np.float32), count)

    px, py, pz, energy = (vectors[:, axis].astype(np.float64).sum(axis=1, where=real) for axis in range(4))
    particles = {f"part_{name}": jagged(vectors[:, axis]) for axis, name in enumerate(("px", "py", "pz", "energy"))}
    particles |= {"part_deta": jagged(points[:, 0]), "part_dphi": jagged(points[:, 1])}
    particles |= {f"part_{name}": jagged(np.zeros_like(vectors[:, 0])) for name in UNKNOWN_PARTICLE}
    pt = np.hypot(px, py)
    jets = {
        "jet_pt": pt,
        "jet_eta": np.arcsinh(np.divide(pz, pt, out=np.zeros_like(pt), where=pt > 0)),
        "jet_phi": np.arctan2(py, px),
        "jet_energy": energy,
        "jet_nparticles": count,
        **{name: np.zeros(len(label)) for name in UNKNOWN_JET},
    }
    flags = {name: (label == index).astype(np.int32) for index, name in enumerate(LABELS)}
    return particles | {name: column.astype(np.float32) for name, column in jets.items()} | flags


def write_root(path: Path, columns: dict[str, Any], treename: str = "tree") -> Path:
    """Write columns as one TTree; jagged ones have the counter ``npart``, those of secondary vertices ``nsv``."""
    types = {
        name: column.type.content if isinstance(column, ak.Array) else column.dtype for name, column in columns.items()
    }
    with uproot.recreate(path) as file:
        file.mktree(treename, {name: str(kind) for name, kind in types.items()}, counter_name=_counter)
        file[treename].extend(columns)
    return path


def _counter(counted: str) -> str:
    return "nsv" if counted.startswith("sv_") else "npart"


def write_jetclass_root(
    path: Path, vectors: npt.NDArray[Any], points: npt.NDArray[Any], label: npt.NDArray[Any]
) -> Path:
    """Write jets as a JetClass-schema ROOT file (see ``jetclass_columns``)."""
    return write_root(path, jetclass_columns(vectors, points, label))


def random_jets(
    count: int, seed: int = 0, particles: npt.NDArray[Any] | None = None, slots: int = 20
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Return vectors, points and labels of jets without physics, with 1 to ``slots`` particles each."""
    rng = np.random.default_rng(seed)
    multiplicity = rng.integers(1, slots + 1, count) if particles is None else particles
    real = np.arange(slots) < multiplicity[:, None]
    momentum = rng.normal(scale=5, size=(count, 3, slots))
    energy = np.sqrt((momentum**2).sum(axis=1) + 0.02)
    vectors = np.concatenate([momentum, energy[:, None]], axis=1) * real[:, None]
    points = rng.uniform(-0.8, 0.8, size=(count, 2, slots)) * real[:, None]
    return vectors.astype(np.float32), points.astype(np.float32), np.arange(count) % len(LABELS)
