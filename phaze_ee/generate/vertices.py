"""Secondary vertices: where two or more tracks of a jet begin away from the collision, as a tracker sees them.

The truth is Pythia's: charged particles with the same production point come from one decay. The position is smeared by
a resolution along the flight and one across it, which are of the size of those of the LHC's pixel detectors and fall
with the number of tracks. Decays of bottom and charm hadrons are separate vertices, and tracks are never shared or
misassigned, so these vertices are cleaner than reconstructed ones.
"""

from dataclasses import dataclass

import numpy as np

from phaze_ee.generate.columns import Columns, Floats, Integers, log_normal, sum_by, wrap_angle
from phaze_ee.generate.jets import RADIUS, Jets
from phaze_ee.generate.propagation import Particles
from phaze_ee.generate.tracking import tracking_efficiency

_MILLIMETRES = 1e3  # per metre
_SHORTEST, _LONGEST = 0.1, 50.0  # mm from the beam: the collision point below, the detector's material above
_LEAST_PT = 0.5  # GeV
_ALONG, _ACROSS = 0.15, 0.02  # mm, for two tracks
_SPREAD = 0.3  # of the resolution from vertex to vertex, relative


@dataclass(frozen=True)
class Vertices(Columns):
    """Secondary vertices, sorted by event.

    Attributes:
        px, py, pz, energy: sum over the tracks, GeV.
        tracks: their number.
        dxy, dxy_error: transverse distance from the collision, mm.
        d3d, d3d_error: distance from the collision, mm.
        cos_theta: cosine of the angle between flight and momentum.
    """

    event: Integers
    px: Floats
    py: Floats
    pz: Floats
    energy: Floats
    tracks: Integers
    dxy: Floats
    dxy_error: Floats
    d3d: Floats
    d3d_error: Floats
    cos_theta: Floats

    @property
    def pt(self) -> Floats:
        return np.hypot(self.px, self.py)

    @property
    def eta(self) -> Floats:
        return np.arcsinh(self.pz / self.pt)

    @property
    def phi(self) -> Floats:
        return np.arctan2(self.py, self.px)

    @property
    def mass(self) -> Floats:
        return np.sqrt(np.maximum(self.energy**2 - self.pt**2 - self.pz**2, 0.0))


def find_vertices(particles: Particles, generator: np.random.Generator) -> Vertices:
    """Return the secondary vertices of stable particles."""
    tracks = _displaced_tracks(particles, generator)
    origin = np.stack([tracks.event, tracks.x, tracks.y, tracks.z], axis=1)
    places, vertex_of, counts = np.unique(origin, axis=0, return_inverse=True, return_counts=True)
    vertex_of = vertex_of.reshape(-1)
    sums = {name: sum_by(vertex_of, getattr(tracks, name), len(places)) for name in ("px", "py", "pz", "energy")}
    momentum = np.stack([sums["px"], sums["py"], sums["pz"]], axis=1)
    flight, along, across = _smeared(_MILLIMETRES * places[:, 1:], counts, generator)
    distance = np.linalg.norm(flight, axis=1)
    dxy = np.hypot(flight[:, 0], flight[:, 1])
    sine = dxy / distance
    vertices = Vertices(
        event=places[:, 0].astype(np.int64),
        **sums,
        tracks=counts,
        dxy=dxy,
        dxy_error=np.hypot(sine * along, across),
        d3d=distance,
        d3d_error=along,
        cos_theta=(flight * momentum).sum(axis=1) / (distance * np.linalg.norm(momentum, axis=1)),
    )
    return vertices[counts > 1]


def vertices_of_jets(vertices: Vertices, jets: Jets) -> tuple[Vertices, Integers]:
    """Return the vertices inside of jets, by jet and falling significance of their distance, and how many each has."""
    found = [
        np.flatnonzero(
            (vertices.event == event) & (np.hypot(vertices.eta - eta, wrap_angle(vertices.phi - phi)) < RADIUS)
        )
        for event, eta, phi in zip(jets.event, jets.eta, jets.phi, strict=True)
    ]
    significance = vertices.d3d / vertices.d3d_error
    rows = [own[np.argsort(-significance[own], kind="stable")] for own in found]
    sizes = np.array([len(own) for own in rows], dtype=np.int64)
    return vertices[np.concatenate([np.empty(0, dtype=np.int64), *rows])], sizes


def _displaced_tracks(particles: Particles, generator: np.random.Generator) -> Particles:
    radius = _MILLIMETRES * np.hypot(particles.x, particles.y)
    displaced = (radius > _SHORTEST) & (radius < _LONGEST) & (particles.charge != 0) & (particles.pt > _LEAST_PT)
    tracks = particles[displaced]
    efficiency = tracking_efficiency(np.abs(tracks.pdg_id), tracks.pt, tracks.eta)
    return tracks[generator.random(len(tracks)) < efficiency]


def _smeared(flight: Floats, tracks: Integers, generator: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Return measured positions, mm, and their resolutions along and across the flight."""
    scale = log_normal(np.ones(len(tracks)), np.full(len(tracks), _SPREAD), generator) / np.sqrt(
        np.maximum(tracks - 1, 1)
    )
    along, across = _ALONG * scale, _ACROSS * scale
    direction = flight / np.linalg.norm(flight, axis=1, keepdims=True)
    shift = generator.standard_normal(flight.shape)
    forward = (shift * direction).sum(axis=1, keepdims=True) * direction
    return flight + along[:, None] * forward + across[:, None] * (shift - forward), along, across
