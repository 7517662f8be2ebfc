"""Straight lines and helices from the production point to the calorimeter surface.

Geometry and field of the JetClass Delphes card (github.com/jet-universe/jetclass_generation): a cylinder of 1.29 m
radius and 3 m half-length in a field of 3.8 T along z.
"""

from dataclasses import dataclass

import numpy as np

from phaze_ee.generate.columns import Booleans, Columns, Floats, Integers, wrap_angle

RADIUS = 1.29
HALF_LENGTH = 3.0
FIELD = 3.8
GEV_PER_TESLA_METRE = 0.299792458
_NEVER = 1e6
_CHARGED_LIKE_PDG_SIGN = (211, 321, 2212)
_CHARGED_AGAINST_PDG_SIGN = (11, 13)


@dataclass(frozen=True)
class Particles(Columns):
    """Generated particles: momenta in GeV, production points in metres."""

    event: Integers
    pdg_id: Integers
    px: Floats
    py: Floats
    pz: Floats
    energy: Floats
    x: Floats
    y: Floats
    z: Floats

    @property
    def pt(self) -> Floats:
        return np.hypot(self.px, self.py)

    @property
    def eta(self) -> Floats:
        return np.arcsinh(self.pz / self.pt)

    @property
    def charge(self) -> Floats:
        """Electric charge in units of the proton's; the stable charged particles are e, mu, pi, K and p."""
        code = np.abs(self.pdg_id)
        sign = np.isin(code, _CHARGED_LIKE_PDG_SIGN) * 1.0 - np.isin(code, _CHARGED_AGAINST_PDG_SIGN) * 1.0
        return np.sign(self.pdg_id) * sign


@dataclass(frozen=True)
class Impact(Columns):
    """Where particles reach the calorimeter, and their tracks' point of closest approach to the beam axis.

    Attributes:
        eta, phi: direction of the impact point as seen from the origin.
        perigee_phi: direction of the transverse momentum at closest approach.
        d0, dz: signed transverse distance ``(x py - y px) / pt`` and z of that point, mm; zero for neutral particles.
    """

    eta: Floats
    phi: Floats
    perigee_phi: Floats
    d0: Floats
    dz: Floats


def reaches_calorimeter(particles: Particles) -> Booleans:
    """Return which particles start inside the cylinder, have transverse momentum, and are no neutrinos."""
    inside = (np.hypot(particles.x, particles.y) < RADIUS) & (np.abs(particles.z) < HALF_LENGTH)
    return inside & (particles.pt > 1e-4) & ~np.isin(np.abs(particles.pdg_id), (12, 14, 16))


def propagate(particles: Particles) -> Impact:
    """Follow each particle to the cylinder; all must satisfy :func:`reaches_calorimeter`.

    Paths are parametrised by the transverse arc length s: along a helix of signed radius r the direction turns as
    ``phi(s) = phi - s / r``, and z grows by ``s pz / pt`` on helix and line alike.
    """
    charged = particles.charge != 0
    result = Impact(*(np.empty(len(particles)) for _ in Impact.names()))
    for rows, path in ((charged, _along_helix), (~charged, _along_line)):
        for name, values in vars(path(particles[rows])).items():
            getattr(result, name)[rows] = values
    return result


def _length_to_end_cap(particles: Particles) -> Floats:
    with np.errstate(divide="ignore", over="ignore"):
        length = (np.copysign(HALF_LENGTH, particles.pz) - particles.z) * particles.pt / particles.pz
    # A particle exactly perpendicular to the beam never reaches the end cap; a long path keeps later results finite.
    return np.minimum(length, _NEVER)


def _along_line(particles: Particles) -> Impact:
    pt, x, y = particles.pt, particles.x, particles.y
    cos_phi, sin_phi = particles.px / pt, particles.py / pt
    along = x * cos_phi + y * sin_phi
    to_side = np.sqrt(along**2 + RADIUS**2 - x**2 - y**2) - along
    length = np.minimum(to_side, _length_to_end_cap(particles))
    eta, phi = _direction(x + length * cos_phi, y + length * sin_phi, particles.z + length * particles.pz / pt)
    none = np.zeros(len(particles))
    return Impact(eta, phi, np.arctan2(particles.py, particles.px), none, none)


def _along_helix(particles: Particles) -> Impact:
    pt, phi = particles.pt, np.arctan2(particles.py, particles.px)
    signed_radius = pt / (GEV_PER_TESLA_METRE * FIELD * particles.charge)
    radius, turning = np.abs(signed_radius), np.sign(signed_radius)
    centre_x = particles.x + signed_radius * np.sin(phi)
    centre_y = particles.y - signed_radius * np.cos(phi)
    centre = np.hypot(centre_x, centre_y)
    perigee_phi = np.arctan2(turning * centre_x, -turning * centre_y)
    to_perigee = signed_radius * wrap_angle(phi - perigee_phi)

    cosine = (radius**2 + centre**2 - RADIUS**2) / (2 * radius * np.maximum(centre, 1e-12))
    to_side = to_perigee + radius * np.arccos(np.clip(cosine, -1, 1))
    to_end_cap = _length_to_end_cap(particles)
    curls_up = centre + radius < RADIUS
    length = np.where(curls_up, to_end_cap, np.minimum(to_side, to_end_cap))

    slope = particles.pz / pt
    final_phi = phi - length / signed_radius
    eta, impact_phi = _direction(
        centre_x - signed_radius * np.sin(final_phi),
        centre_y + signed_radius * np.cos(final_phi),
        particles.z + length * slope,
    )
    d0 = turning * (centre - radius)
    dz = particles.z + to_perigee * slope
    return Impact(eta, impact_phi, perigee_phi, 1e3 * d0, 1e3 * dz)


def _direction(x: Floats, y: Floats, z: Floats) -> tuple[Floats, Floats]:
    return np.arcsinh(z / np.maximum(np.hypot(x, y), 1e-9)), np.arctan2(y, x)
