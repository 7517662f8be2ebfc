"""From stable particles to energy-flow candidates: tracks, photons and neutral hadrons."""

from dataclasses import dataclass

import numpy as np

from phaze_ee.generate.calorimeter import ELECTROMAGNETIC, HADRONIC, Deposits
from phaze_ee.generate.columns import Columns, Floats, Integers
from phaze_ee.generate.processes import ELECTRON, MUON
from phaze_ee.generate.propagation import Impact, Particles, propagate, reaches_calorimeter
from phaze_ee.generate.tracking import ImpactParameters, find_tracks, measure_impact_parameters

PHOTON, NEUTRAL_HADRON = 22, 0
ACCEPTANCE = 3.3


@dataclass(frozen=True)
class Candidates(Columns):
    """Energy-flow candidates, sorted by event.

    Attributes:
        code: absolute PDG code; 22 for photons and 0 for neutral hadrons.
        pt, eta, phi, mass: momentum, GeV.
        surface_eta: pseudorapidity of the point at the calorimeter surface. Delphes stores it, and so does JetClass,
            but jets are clustered from the momenta.
        d0, d0_error, dz, dz_error: mm; zero for neutral candidates.
    """

    event: Integers
    code: Integers
    charge: Floats
    pt: Floats
    eta: Floats
    phi: Floats
    mass: Floats
    surface_eta: Floats
    d0: Floats
    d0_error: Floats
    dz: Floats
    dz_error: Floats

    def momentum(self, eta: Floats) -> dict[str, Floats]:
        """Return px, py, pz and E in GeV, with ``eta`` for the pseudorapidity."""
        return {
            "px": self.pt * np.cos(self.phi),
            "py": self.pt * np.sin(self.phi),
            "pz": self.pt * np.sinh(eta),
            "E": np.hypot(self.pt * np.cosh(eta), self.mass),
        }


def detect(particles: Particles, generator: np.random.Generator) -> Candidates:
    """Pass stable particles through the detector."""
    particles = particles[reaches_calorimeter(particles)]
    impact = propagate(particles)
    deposits = Deposits(particles.event, impact.eta, impact.phi, particles.energy)
    tracked = find_tracks(particles, impact, generator)
    measured = measure_impact_parameters(particles[tracked], impact[tracked], generator)
    tracks = _tracks(particles[tracked], impact[tracked], measured)

    code = np.abs(particles.pdg_id)
    electromagnetic = np.isin(code, (ELECTRON, PHOTON))
    scale = np.ones(len(tracks))
    parts = []
    for calorimeter, seen, neutral_code in (
        (ELECTROMAGNETIC, electromagnetic, PHOTON),
        (HADRONIC, ~electromagnetic & (code != MUON), NEUTRAL_HADRON),
    ):
        excess, factor = calorimeter.measure(deposits[seen], deposits[seen & tracked], generator)
        scale[seen[tracked]] = factor
        parts.append(_neutrals(excess, neutral_code))
    rescaled = _rescale(tracks, scale)
    candidates = Candidates.concatenate([rescaled, *parts])
    candidates = candidates[np.abs(candidates.eta) < ACCEPTANCE]
    return candidates[np.argsort(candidates.event, kind="stable")]


def _tracks(particles: Particles, impact: Impact, measured: ImpactParameters) -> Candidates:
    squared_mass = particles.energy**2 - particles.pt**2 - particles.pz**2
    return Candidates(
        event=particles.event,
        code=np.abs(particles.pdg_id),
        charge=particles.charge,
        pt=particles.pt,
        eta=particles.eta,
        phi=impact.perigee_phi,
        mass=np.sqrt(np.maximum(squared_mass, 0.0)),
        surface_eta=impact.eta,
        **vars(measured),
    )


def _rescale(tracks: Candidates, scale: Floats) -> Candidates:
    return Candidates(**{**vars(tracks), "pt": tracks.pt * scale})[scale > 0]


def _neutrals(deposits: Deposits, code: int) -> Candidates:
    none = np.zeros(len(deposits))
    return Candidates(
        event=deposits.event,
        code=np.full(len(deposits), code),
        charge=none,
        pt=deposits.energy / np.cosh(deposits.eta),
        eta=deposits.eta,
        phi=deposits.phi,
        mass=none,
        surface_eta=deposits.eta,
        d0=none,
        d0_error=none,
        dz=none,
        dz_error=none,
    )
