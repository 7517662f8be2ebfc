"""Which charged particles become tracks, and how well their impact parameters are measured.

Formulae of the JetClass Delphes card (github.com/jet-universe/jetclass_generation). Its track smearing has a momentum
resolution of zero and so restores the generated momentum: the momentum resolution below acts only through the entry of
the impact-parameter table that a track reads.
"""

from dataclasses import dataclass

import numpy as np

from phaze_ee.generate.columns import Booleans, Columns, Floats, Integers, log_normal
from phaze_ee.generate.processes import ELECTRON, MUON
from phaze_ee.generate.propagation import Impact, Particles

ETA_EDGES = np.array([0.9, 1.4, 2.5])

# fmt: off
# GeV
PT_EDGES = np.array([
    0.1823, 0.2227, 0.272, 0.3323, 0.406, 0.4959, 0.6058, 0.7401, 0.9041, 1.1044, 1.3492, 1.6481, 2.0134, 2.4595,
    3.0045, 3.6703, 4.4837, 5.4772, 6.691, 8.1737, 9.9849, 12.1976, 14.9005, 18.2024, 22.236, 27.1635, 33.1828,
    40.536, 49.5187, 60.4919, 73.8967, 90.272, 110.276, 134.713,
])
# mm
D0_RESOLUTION = np.array([
    [
        0.3543, 0.2809, 0.2304, 0.1917, 0.1737, 0.1434, 0.106, 0.0893, 0.0753, 0.067, 0.0577, 0.0524, 0.0452, 0.0376,
        0.035, 0.0324, 0.0283, 0.0258, 0.0237, 0.0211, 0.0191, 0.0164, 0.015, 0.0143, 0.013, 0.013, 0.0116, 0.0116,
        0.011, 0.011, 0.011, 0.0104, 0.0109, 0.011,
    ],
    [
        0.4564, 0.358, 0.301, 0.2353, 0.2026, 0.1595, 0.1383, 0.1119, 0.0926, 0.0816, 0.0663, 0.0553, 0.0488, 0.0431,
        0.0399, 0.0357, 0.0313, 0.0277, 0.0233, 0.0221, 0.0214, 0.018, 0.0155, 0.0141, 0.0128, 0.0134, 0.0121, 0.0108,
        0.0101, 0.0101, 0.0101, 0.0102, 0.0088, 0.0095,
    ],
    [
        0.697, 0.6046, 0.5315, 0.4306, 0.3398, 0.2788, 0.2387, 0.1814, 0.1557, 0.123, 0.1009, 0.0914, 0.0767, 0.0638,
        0.0544, 0.0468, 0.0425, 0.0385, 0.0331, 0.0278, 0.0256, 0.0236, 0.0217, 0.0196, 0.0176, 0.0165, 0.0157, 0.015,
        0.0144, 0.0144, 0.0137, 0.013, 0.0137, 0.0137,
    ],
])
# mm
DZ_RESOLUTION = np.array([
    [
        0.3693, 0.3135, 0.3125, 0.2578, 0.2221, 0.1936, 0.1686, 0.1351, 0.1113, 0.0983, 0.0882, 0.0786, 0.0684,
        0.0615, 0.0551, 0.0516, 0.0484, 0.045, 0.0416, 0.0416, 0.0382, 0.035, 0.0317, 0.0316, 0.0316, 0.0316, 0.0348,
        0.0316, 0.0316, 0.0316, 0.0284, 0.0283, 0.0315, 0.0318,
    ],
    [
        0.7062, 0.601, 0.5992, 0.4959, 0.3877, 0.3199, 0.2649, 0.2518, 0.1982, 0.1587, 0.1399, 0.1199, 0.1031, 0.0967,
        0.0805, 0.0736, 0.0707, 0.0603, 0.0609, 0.0541, 0.0511, 0.0443, 0.0409, 0.0408, 0.0409, 0.0377, 0.0375,
        0.0377, 0.0342, 0.0342, 0.0343, 0.0343, 0.0309, 0.031,
    ],
    [
        2.1717, 2.0715, 2.0679, 1.7679, 1.4393, 1.1997, 0.98, 0.8251, 0.6695, 0.5545, 0.4366, 0.3711, 0.3319, 0.2721,
        0.2443, 0.2085, 0.1816, 0.1641, 0.1451, 0.1317, 0.1117, 0.102, 0.1017, 0.0983, 0.0882, 0.0847, 0.0814, 0.0784,
        0.0817, 0.075, 0.0816, 0.082, 0.0814, 0.085,
    ],
])


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
    """Return which particles leave a track."""
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
    """Return entries of the table; zero below its lowest momentum and beyond its largest |eta|."""
    padded = np.pad(table, ((0, 1), (1, 0)))
    return padded[np.searchsorted(ETA_EDGES, np.abs(eta)), np.searchsorted(PT_EDGES, pt)]
