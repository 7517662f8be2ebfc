"""Calorimeter towers and energy flow: the energy in towers in excess of the tracks that point to them.

Tower layout, resolutions and thresholds of the JetClass Delphes card (github.com/jet-universe/jetclass_generation); the
energy-flow rule is that of Delphes' simplified calorimeter (J. de Favereau et al., arXiv:1307.6346).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from phaze_ee.generate.columns import Booleans, Columns, Floats, Integers, log_normal, sum_by


@dataclass(frozen=True)
class Deposits(Columns):
    """Energies (GeV) of particles or tracks at the calorimeter surface."""

    event: Integers
    eta: Floats
    phi: Floats
    energy: Floats


@dataclass(frozen=True)
class Layout:
    """Rings of towers: ring i, from ``eta_edges[i]`` to ``eta_edges[i + 1]``, has ``divisions[i]`` towers."""

    eta_edges: Floats
    divisions: Integers

    def locate(self, eta: Floats, phi: Floats) -> tuple[Integers, Integers, Booleans]:
        """Return the ring, the tower within the ring, and whether the direction is covered."""
        ring = np.searchsorted(self.eta_edges, eta) - 1
        covered = (ring >= 0) & (ring < len(self.divisions))
        ring = np.where(covered, ring, 0)
        tower = np.floor((phi + np.pi) / (2 * np.pi) * self.divisions[ring]).astype(np.int64)
        return ring, np.clip(tower, 0, self.divisions[ring] - 1), covered

    def number(self, deposits: Deposits) -> tuple[Integers, Booleans]:
        """Return one number for each event and tower, and whether the deposit is covered."""
        ring, tower, covered = self.locate(deposits.eta, deposits.phi)
        return (deposits.event * len(self.divisions) + ring) * int(self.divisions.max()) + tower, covered

    def split(self, number: Integers) -> tuple[Integers, Integers, Integers]:
        """Return event, ring and tower within the ring of tower numbers."""
        rest, tower = np.divmod(number, int(self.divisions.max()))
        event, ring = np.divmod(rest, len(self.divisions))
        return event, ring, tower


@dataclass(frozen=True)
class Calorimeter:
    """One calorimeter.

    Attributes:
        layout: its towers.
        resolution: standard deviation (GeV) of a tower at (|eta| of its centre, energy in GeV).
        minimum_energy: threshold (GeV) for towers and neutral excesses.
        minimum_significance: the same threshold in units of the resolution.
    """

    layout: Layout
    resolution: Callable[[Floats, Floats], Floats]
    minimum_energy: float
    minimum_significance: float

    def measure(self, deposits: Deposits, tracks: Deposits, generator: np.random.Generator) -> tuple[Deposits, Floats]:
        """Return the neutral energy in excess of the tracks, and the rescaling of the tracks.

        Each track must have its deposit among ``deposits``.

        A tower whose excess over its tracks is significant yields one neutral deposit, at a random place in the tower.
        In other towers the tracks, which have no resolution in the card and so no weight, are rescaled to the energy of
        the tower, or removed if it is below threshold.

        Returns:
            The neutral deposits, and the factor on each track's momentum: zero for tracks beyond the towers.
        """
        number, covered = self.layout.number(deposits)
        towers, tower_of = np.unique(number[covered], return_inverse=True)
        true_energy = sum_by(tower_of, deposits.energy[covered], len(towers))
        track_number, track_covered = self.layout.number(tracks)
        tower_of_track = np.searchsorted(towers, track_number[track_covered])
        track_energy = sum_by(tower_of_track, tracks.energy[track_covered], len(towers))

        event, ring, tower = self.layout.split(towers)
        energy, sigma = self._read_out(ring, true_energy, generator)
        excess = np.maximum(energy - track_energy, 0.0)
        neutral = (excess > self.minimum_energy) & (excess > self.minimum_significance * sigma)
        eta, phi = self._place(ring, tower, generator)
        with np.errstate(divide="ignore", invalid="ignore"):
            rescaling = np.where(neutral, 1.0, energy / track_energy)
        scale = np.zeros(len(tracks))
        scale[track_covered] = rescaling[tower_of_track]
        return Deposits(event, eta, phi, excess)[neutral], scale

    def _read_out(self, ring: Integers, energy: Floats, generator: np.random.Generator) -> tuple[Floats, Floats]:
        centre = np.abs(self.layout.eta_edges[ring] + self.layout.eta_edges[ring + 1]) / 2
        read = log_normal(energy, self.resolution(centre, energy), generator)
        sigma = self.resolution(centre, read)
        noise = (read < self.minimum_energy) | (read < self.minimum_significance * sigma)
        return np.where(noise, 0.0, read), sigma

    def _place(self, ring: Integers, tower: Integers, generator: np.random.Generator) -> tuple[Floats, Floats]:
        eta = generator.uniform(self.layout.eta_edges[ring], self.layout.eta_edges[ring + 1])
        phi = -np.pi + (tower + generator.random(len(tower))) * (2 * np.pi / self.layout.divisions[ring])
        return eta, phi


def _mirrored(rings: list[tuple[float, int]]) -> Layout:
    """Build a layout from (outer |eta| edge, divisions) of the rings at positive eta, starting at eta = 0."""
    edges = np.array([edge for edge, _ in rings])
    divisions = np.array([count for _, count in rings])
    return Layout(np.concatenate([-edges[::-1], [0.0], edges]), np.concatenate([divisions[::-1], divisions]))


_FORWARD = [3.3, 3.475, 3.65, 3.825, 4.0, 4.175, 4.35, 4.525, 4.7, 5.0]


def _electromagnetic_layout() -> Layout:
    fine = [0.0174 * step for step in range(1, 171)]
    return _mirrored([(edge, 360) for edge in fine] + [(edge, 36) for edge in (3.125, *_FORWARD)])


def _hadronic_layout() -> Layout:
    barrel = [0.087 * step for step in range(1, 20)]
    end_cap = [1.74, 1.83, 1.93, 2.043, 2.172, 2.322, 2.5, 2.65, 2.868, 2.95, 3.125, *_FORWARD]
    # The outermost rings of the card have 18 divisions; no jet of |eta| < 2 reaches them.
    return _mirrored([(edge, 72) for edge in barrel] + [(edge, 36) for edge in end_cap[:-2]] + [(4.7, 18), (5.0, 18)])


def _electromagnetic_resolution(eta: Floats, energy: Floats) -> Floats:
    central = np.sqrt((0.008 * energy) ** 2 + 0.11**2 * energy + 0.40**2)
    forward = np.sqrt((0.107 * energy) ** 2 + 2.08**2 * energy)
    return np.select(
        [eta <= 1.5, eta <= 2.5], [(1 + 0.64 * eta**2) * central, (2.16 + 5.6 * (eta - 2) ** 2) * central], forward
    )


def _hadronic_resolution(eta: Floats, energy: Floats) -> Floats:
    central = np.sqrt((0.05 * energy) ** 2 + 1.5**2 * energy)
    return np.where(eta <= 3.0, central, np.sqrt((0.13 * energy) ** 2 + 2.7**2 * energy))


ELECTROMAGNETIC = Calorimeter(_electromagnetic_layout(), _electromagnetic_resolution, 0.5, 2.0)
HADRONIC = Calorimeter(_hadronic_layout(), _hadronic_resolution, 1.0, 1.0)
