"""Which charged particles become tracks, and how well their impact parameters are measured.

Formulae of the JetClass Delphes card (github.com/jet-universe/jetclass_generation). Its track smearing has a momentum
resolution of zero and so restores the generated momentum: the momentum resolution below acts only through the entry of
the impact-parameter table that a track reads.
"""

from dataclasses import dataclass

import numpy as np

from phaze_ee.generate.columns import Booleans, Columns, Floats, Integers, log_normal
from phaze_ee.generate.impact_resolution import D0_RESOLUTION, DZ_RESOLUTION, ETA_EDGES, PT_EDGES
from phaze_ee.generate.processes import ELECTRON, MUON
from phaze_ee.generate.propagation import Impact, Particles

ACCEPTANCE = 2.5
_MOMENTUM_ETA_EDGES = np.array([0.5, 1.5])
# Resolution sqrt(a^2 + (b pt)^2) in GeV, by |eta| up to 0.5, 1.5 and 2.5.
_HADRON_CONSTANT = np.array([0.06, 0.10, 0.25])
_ELECTRON_CONSTANT = np.array([0.03, 0.05, 0.15])
_MUON_CONSTANT = np.array([0.01, 0.015, 0.025])
_HADRON_SLOPE = np.array([1.3e-3, 1.7e-3, 3.1e-3])
_MUON_SLOPE = np.array([1.0e-4, 1.5e-4, 3.5e-4])


@dataclass(frozen=True)
class ImpactParameters(Columns):
    """Measured impact parameters and their errors, mm."""

    d0: Floats
    d0_error: Floats
    dz: Floats
    dz_error: Floats


def tracking_efficiency(code: Integers, pt: Floats, eta: Floats) -> Floats:
    """Return the probability that charged particles leave a track.

    Args:
        code: absolute PDG codes.
        pt: transverse momenta, GeV.
        eta: pseudorapidities at the calorimeter surface.
    """
    barrel, soft = np.abs(eta) <= 1.5, pt <= 1.0
    hadron = _by_region(barrel, soft, (0.70, 0.60), (0.95, 0.85))
    electron = np.where(pt > 100.0, np.where(barrel, 0.99, 0.90), _by_region(barrel, soft, (0.73, 0.50), (0.95, 0.83)))
    stiff_loss = np.where(pt > 1000.0, np.exp(0.5 - 5e-4 * pt), 1.0)
    muon = _by_region(barrel, soft, (0.75, 0.70), (0.99, 0.98)) * stiff_loss
    efficiency = np.select([code == ELECTRON, code == MUON], [electron, muon], hadron)
    return np.where((pt <= 0.1) | (np.abs(eta) > ACCEPTANCE), 0.0, efficiency)


def _by_region(barrel: Booleans, soft: Booleans, low: tuple[float, float], high: tuple[float, float]) -> Floats:
    return np.where(soft, np.where(barrel, *low), np.where(barrel, *high))


def measured_pt(code: Integers, pt: Floats, eta: Floats, generator: np.random.Generator) -> Floats:
    """Draw transverse momenta (GeV) with the tracker's resolution, at most 100 %; ``eta`` is at the calorimeter."""
    region = np.searchsorted(_MOMENTUM_ETA_EDGES, np.abs(eta))
    electron, muon = code == ELECTRON, code == MUON
    constant = np.select(
        [electron, muon], [_ELECTRON_CONSTANT[region], _MUON_CONSTANT[region]], _HADRON_CONSTANT[region]
    )
    slope = np.where(muon, _MUON_SLOPE[region], _HADRON_SLOPE[region])
    relative = np.minimum(np.sqrt(constant**2 + (slope * pt) ** 2), 1.0)
    return log_normal(pt, relative * pt, generator)


def find_tracks(particles: Particles, impact: Impact, generator: np.random.Generator) -> Booleans:
    """Say which particles leave a track."""
    efficiency = tracking_efficiency(np.abs(particles.pdg_id), particles.pt, impact.eta)
    charged: Booleans = particles.charge != 0
    return charged & (generator.random(len(particles)) < efficiency)


def measure_impact_parameters(particles: Particles, impact: Impact, generator: np.random.Generator) -> ImpactParameters:
    """Smear the true impact parameters of tracks by the tabulated resolution, which is also their quoted error."""
    pt = measured_pt(np.abs(particles.pdg_id), particles.pt, impact.eta, generator)
    d0_error = _look_up(D0_RESOLUTION, pt, particles.eta)
    dz_error = _look_up(DZ_RESOLUTION, pt, particles.eta)
    return ImpactParameters(
        impact.d0 + d0_error * generator.standard_normal(len(pt)),
        d0_error,
        impact.dz + dz_error * generator.standard_normal(len(pt)),
        dz_error,
    )


def _look_up(table: Floats, pt: Floats, eta: Floats) -> Floats:
    """Read the table, which says nothing (zero) below its lowest momentum and beyond its largest |eta|."""
    padded = np.pad(table, ((0, 1), (1, 0)))
    return padded[np.searchsorted(ETA_EDGES, np.abs(eta)), np.searchsorted(PT_EDGES, pt)]
