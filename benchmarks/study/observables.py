"""Observables of jets: those in JetClass's files, and the energy correlators C2 and D2 of FastJet."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import awkward as ak
import numpy as np
import numpy.typing as npt
import uproot

from phaze_ee.exits.answers import Answers

Array = npt.NDArray[np.float64]
_AXES = {"px": "part_px", "py": "part_py", "pz": "part_pz", "E": "part_energy"}
_WHOLE_JET = 1000.0  # a radius with which all particles are one jet


def observables(answers: Answers, files: Sequence[Path]) -> Mapping[str, Array]:
    """Return one number for each jet: pT, η, multiplicity, soft-drop mass, τ21, τ32, and C2 and D2 with FastJet.

    Args:
        answers: with JetClass's observers, for all jets of the files in order.
        files: where the particles are.
    """
    found = {name: np.asarray(column, dtype=np.float64) for name, column in answers.observers.items()}
    columns = {
        "pT": found["jet_pt"],
        "|η|": np.abs(found["jet_eta"]),
        "multiplicity": found["jet_nparticles"],
        "soft-drop mass": found["jet_sdmass"],
        "τ21": _ratio(found["jet_tau2"], found["jet_tau1"]),
        "τ32": _ratio(found["jet_tau3"], found["jet_tau2"]),
    }
    return columns | (_correlators(files) if find_spec("fastjet") else {})


def _correlators(files: Sequence[Path]) -> dict[str, Array]:
    """Return C2 (arXiv:1305.0007) and D2 (arXiv:1409.6298), both with β = 1."""
    import fastjet

    fastjet._swig.ClusterSequence.set_fastjet_banner_stream(None)
    parts: dict[str, list[Array]] = {"C2": [], "D2": []}
    for path in files:
        columns = uproot.open(path)["tree"].arrays(list(_AXES.values()))
        momenta = ak.zip({axis: ak.values_astype(columns[name], np.float64) for axis, name in _AXES.items()})
        definition = fastjet.JetDefinition(fastjet.cambridge_algorithm, _WHOLE_JET)
        whole = fastjet.ClusterSequence(momenta, definition)
        for name, part in parts.items():
            part.append(ak.to_numpy(whole.exclusive_jets_energy_correlator(njets=1, beta=1, func=name.lower())))
    return {name: np.concatenate(part).astype(np.float64) for name, part in parts.items()}


def _ratio(upper_N: Array, lower_N: Array) -> Array:
    ratio_N: Array = np.divide(upper_N, lower_N, out=np.zeros_like(upper_N), where=lower_N > 0)
    return ratio_N
