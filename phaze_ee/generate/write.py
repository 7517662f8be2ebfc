"""Jets in JetClass's schema: branch names, types and units of the published files."""

from pathlib import Path
from typing import Any

import awkward
import numpy as np
import uproot

from phaze_ee.atomic import replacing
from phaze_ee.generate.columns import wrap_angle
from phaze_ee.generate.detector import NEUTRAL_HADRON, PHOTON
from phaze_ee.generate.processes import ELECTRON, LABELS, MUON
from phaze_ee.generate.sample import Sample

TREE = "tree"
_CHARGED_HADRONS = (211, 321, 2212)
# The labels of JetClass come from formulas with different types.
_LABEL_TYPES = {label: np.bool_ if label.startswith("H") else np.int32 for label in LABELS} | {"QCD": np.float32}


def write_sample(path: Path, label: str, sample: Sample, *, vertices: bool = False) -> None:
    """Write ``sample``, whose jets carry ``label``, as a ROOT file with the tree ``tree``; whole or not at all.

    Args:
        path: the file.
        label: the class, without ``label_``.
        sample: the jets.
        vertices: write the secondary vertices too, as branches ``sv_*``, which JetClass does not have.

    Raises:
        RunError: the file could not be written.
    """
    particles = awkward.unflatten(awkward.zip(particle_branches(sample)), sample.sizes)
    # One record gives the branches part_* a single counter, npart.
    collections = {"part": particles}
    if vertices:
        collections["sv"] = awkward.unflatten(awkward.zip(vertex_branches(sample)), sample.vertex_counts)
    branches = {**collections, **label_branches(label, len(sample)), **jet_branches(sample)}
    types = {
        name: values.type.content if isinstance(values, awkward.Array) else values.dtype
        for name, values in branches.items()
    }
    with replacing(path) as temporary, uproot.recreate(temporary, compression=uproot.ZSTD(5)) as file:
        file.mktree(TREE, types).extend(branches)


def particle_branches(sample: Sample) -> dict[str, Any]:
    """Return the columns ``part_*`` without their prefix, one entry per constituent, in GeV and mm."""
    part = sample.constituents
    jet_eta, jet_phi = (np.repeat(values, sample.sizes) for values in (sample.jets.eta, sample.jets.phi))
    momentum = part.momentum(part.surface_eta)
    real = {
        "px": momentum["px"],
        "py": momentum["py"],
        "pz": momentum["pz"],
        "energy": momentum["E"],
        "deta": np.where(jet_eta > 0, 1.0, -1.0) * (part.surface_eta - jet_eta),
        "dphi": wrap_angle(part.phi - jet_phi),
        "d0val": part.d0,
        "d0err": part.d0_error,
        "dzval": part.dz,
        "dzerr": part.dz_error,
        "charge": part.charge,
    }
    flags = {
        "isChargedHadron": np.isin(part.code, _CHARGED_HADRONS),
        "isNeutralHadron": part.code == NEUTRAL_HADRON,
        "isPhoton": part.code == PHOTON,
        "isElectron": part.code == ELECTRON,
        "isMuon": part.code == MUON,
    }
    return _as(np.float32, real) | _as(np.int32, flags)


def vertex_branches(sample: Sample) -> dict[str, Any]:
    """Return the columns ``sv_*`` without their prefix, one entry per secondary vertex, in GeV and mm."""
    vertices = sample.vertices
    jet_eta, jet_phi = (np.repeat(values, sample.vertex_counts) for values in (sample.jets.eta, sample.jets.phi))
    real = {
        "px": vertices.px,
        "py": vertices.py,
        "pz": vertices.pz,
        "energy": vertices.energy,
        "mass": vertices.mass,
        "deta": np.where(jet_eta > 0, 1.0, -1.0) * (vertices.eta - jet_eta),
        "dphi": wrap_angle(vertices.phi - jet_phi),
        "dxy": vertices.dxy,
        "dxyerr": vertices.dxy_error,
        "d3d": vertices.d3d,
        "d3derr": vertices.d3d_error,
        "costheta": vertices.cos_theta,
    }
    return _as(np.float32, real) | _as(np.int32, {"ntracks": vertices.tracks})


def label_branches(label: str, jets: int) -> dict[str, Any]:
    """Return the ten one-hot labels."""
    return {f"label_{name}": np.full(jets, name == label, dtype=_LABEL_TYPES[name]) for name in LABELS}


def jet_branches(sample: Sample) -> dict[str, Any]:
    """Return the columns ``jet_*`` and ``aux_*``, in GeV."""
    jets, truth, substructure = sample.jets, sample.truth, sample.substructure
    tau = {f"jet_tau{order + 1}": substructure.tau[:, order] for order in range(4)}
    return _as(
        np.float32,
        {
            "jet_pt": jets.pt,
            "jet_eta": jets.eta,
            "jet_phi": jets.phi,
            "jet_energy": jets.energy,
            "jet_nparticles": sample.sizes,
            "jet_sdmass": substructure.soft_drop_mass,
            **tau,
            "aux_genpart_eta": truth.eta,
            "aux_genpart_phi": truth.phi,
            "aux_genpart_pid": truth.pdg_id,
            "aux_genpart_pt": truth.pt,
            "aux_truth_match": truth.code,
        },
    )


def _as(dtype: Any, columns: dict[str, Any]) -> dict[str, Any]:
    return {name: np.asarray(values, dtype=dtype) for name, values in columns.items()}
