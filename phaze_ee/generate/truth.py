"""The decay that makes a jet a signal jet: its resonance and visible legs, matched as in JetClass.

Legs are the quarks and gluons right after the decay, before they radiate, and the leptons after radiation; all of them
must lie within 0.8 of the jet axis (arXiv:2202.03772, section 2, and the authors' ntuple maker).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from phaze_ee.generate.columns import Booleans, Columns, Floats, Integers, wrap_angle
from phaze_ee.generate.events import Record
from phaze_ee.generate.jets import Jets
from phaze_ee.generate.processes import BOTTOM, ELECTRON, GLUON, MUON, W_BOSON, Process

MATCHING_RADIUS = 0.8


@dataclass(frozen=True)
class Truth(Columns):
    """The generated particle of each jet (GeV), and JetClass's code; zeros and the plain code for background."""

    pt: Floats
    eta: Floats
    phi: Floats
    pdg_id: Integers
    code: Integers


@dataclass(frozen=True)
class Decay:
    """One decay of the process's resonance.

    Attributes:
        pt, eta, phi, pdg_id: the resonance right before its decay, GeV.
        leg_eta, leg_phi: directions of the legs.
        code: JetClass's ``aux_truth_match``.
    """

    pt: float
    eta: float
    phi: float
    pdg_id: int
    leg_eta: Floats
    leg_phi: Floats
    code: int

    def inside(self, eta: float, phi: float) -> bool:
        """Return whether all legs are within the matching radius of this direction."""
        distance = np.hypot(self.leg_eta - eta, wrap_angle(self.leg_phi - phi))
        return bool(np.all(distance < MATCHING_RADIUS))


def match(process: Process, record: Record, jets: Jets) -> tuple[Booleans, Truth]:
    """Return which jets belong to the process, and the truth of these jets.

    A jet belongs to a process with a resonance if it has all legs of one decay. Without a resonance all jets belong.
    """
    if not process.resonance:
        none = np.zeros(len(jets))
        code = np.full(len(jets), process.truth_code(()))
        return np.ones(len(jets), dtype=bool), Truth(none, none, none, none.astype(np.int64), code)
    decays = find_decays(process, record)
    found = [
        next((decay for decay in decays.get(int(event), []) if decay.inside(eta, phi)), None)
        for event, eta, phi in zip(jets.event, jets.eta, jets.phi, strict=True)
    ]
    rows = [(decay.pt, decay.eta, decay.phi, decay.pdg_id, decay.code) for decay in found if decay]
    pt, eta, phi, pdg_id, code = np.array(rows).reshape(-1, 5).T
    matched = np.array([decay is not None for decay in found], dtype=bool)
    return matched, Truth(pt, eta, phi, pdg_id.astype(np.int64), code.astype(np.int64))


def find_decays(process: Process, record: Record) -> dict[int, list[Decay]]:
    """Return the decays of the process's resonance into its numbers of partons and leptons, by event."""
    decays: dict[int, list[Decay]] = {}
    for row in _decaying(process.resonance, record):
        legs = list(_legs(record, row))
        leptons = sum(abs(int(record.pdg_id[leg])) in (ELECTRON, MUON) for leg in legs)
        if (len(legs) - leptons, leptons) == (process.partons, process.leptons):
            decays.setdefault(int(record.event[row]), []).append(_decay(process, record, row, legs))
    return decays


def _decaying(resonance: int, record: Record) -> Iterator[int]:
    """Yield the rows where the resonance decays: those without a copy of it among the daughters."""
    for row in np.flatnonzero(np.abs(record.pdg_id) == resonance).tolist():
        if _last_copy(record, row) == row and not record.final[row]:
            yield row


def _daughters(record: Record, row: int) -> range:
    return range(int(record.first_daughter[row]), int(record.last_daughter[row]) + 1)


def _last_copy(record: Record, row: int) -> int:
    """Follow a particle through its radiation to the last entry with its own PDG code."""
    while True:
        copies = [d for d in _daughters(record, row) if d != row and record.pdg_id[d] == record.pdg_id[row]]
        if not copies:
            return row
        row = copies[0]


def _legs(record: Record, row: int) -> Iterator[int]:
    for daughter in _daughters(record, row):
        code = abs(int(record.pdg_id[daughter]))
        if code == W_BOSON:
            yield from _legs(record, _last_copy(record, daughter))
        elif code in (ELECTRON, MUON):
            yield _last_copy(record, daughter)
        elif code <= BOTTOM or code == GLUON:
            yield daughter


def _decay(process: Process, record: Record, row: int, legs: list[int]) -> Decay:
    pt = np.hypot(record.px, record.py)
    codes = tuple(abs(int(record.pdg_id[leg])) for leg in legs)
    return Decay(
        pt=float(pt[row]),
        eta=float(np.arcsinh(record.pz[row] / pt[row])),
        phi=float(np.arctan2(record.py[row], record.px[row])),
        pdg_id=int(record.pdg_id[row]),
        leg_eta=np.arcsinh(record.pz[legs] / pt[legs]),
        leg_phi=np.arctan2(record.py[legs], record.px[legs]),
        code=process.truth_code(codes),
    )
