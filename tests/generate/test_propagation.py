import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from phaze_ee.generate.propagation import (
    FIELD,
    GEV_PER_TESLA_METRE,
    HALF_LENGTH,
    RADIUS,
    Particles,
    propagate,
    reaches_calorimeter,
)

PION, PHOTON, NEUTRINO = 211, 22, 12
PION_MASS = 0.13957


def one(
    pdg_id: int, pt: float, phi: float, pz: float, vertex: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> Particles:
    px, py = pt * np.cos(phi), pt * np.sin(phi)
    energy = np.sqrt(px**2 + py**2 + pz**2 + (PION_MASS**2 if abs(pdg_id) == PION else 0.0))
    return Particles(np.array([0]), np.array([pdg_id]), *(np.array([value]) for value in (px, py, pz, energy, *vertex)))


@settings(deadline=None, max_examples=40)
@given(phi=st.floats(-3.1, 3.1), eta=st.floats(-1.2, 1.2))
def test_photon_from_the_origin_keeps_its_direction(phi: float, eta: float) -> None:
    impact = propagate(one(PHOTON, 5.0, phi, 5.0 * np.sinh(eta)))
    np.testing.assert_allclose([impact.eta[0], impact.phi[0]], [eta, phi], atol=1e-9)
    assert impact.d0[0] == impact.dz[0] == 0


@settings(deadline=None, max_examples=40)
@given(pt=st.floats(1.0, 500.0), phi=st.floats(-3.0, 3.0), slope=st.floats(-1.0, 1.0), sign=st.sampled_from([-1, 1]))
def test_helix_from_the_origin_meets_the_barrel_where_geometry_says(
    pt: float, phi: float, slope: float, sign: int
) -> None:
    impact = propagate(one(sign * PION, pt, phi, slope * pt))
    bending_radius = pt / (GEV_PER_TESLA_METRE * FIELD)
    half_turn = np.arcsin(RADIUS / (2 * bending_radius))  # a chord of length RADIUS from the axis
    turned = (impact.phi[0] - (phi - sign * half_turn) + np.pi) % (2 * np.pi) - np.pi
    np.testing.assert_allclose(turned, 0, atol=1e-7)
    np.testing.assert_allclose(np.sinh(impact.eta[0]), 2 * bending_radius * half_turn * slope / RADIUS, atol=1e-7)
    np.testing.assert_allclose([impact.d0[0], impact.dz[0]], 0, atol=1e-6)


def test_curling_particle_ends_on_the_end_cap() -> None:
    impact = propagate(one(PION, 0.3, 0.7, -0.2))
    bending_radius = 0.3 / (GEV_PER_TESLA_METRE * FIELD)
    turn = HALF_LENGTH * 0.3 / 0.2 / bending_radius
    distance = 2 * bending_radius * abs(np.sin(turn / 2))
    np.testing.assert_allclose(np.sinh(impact.eta[0]), -HALF_LENGTH / distance, rtol=1e-9)


@settings(deadline=None, max_examples=40)
@given(x=st.floats(-5e-3, 5e-3), y=st.floats(-5e-3, 5e-3), phi=st.floats(-3.0, 3.0), sign=st.sampled_from([-1, 1]))
def test_impact_parameter_of_a_stiff_track_is_that_of_a_straight_line(
    x: float, y: float, phi: float, sign: int
) -> None:
    impact = propagate(one(sign * PION, 5e3, phi, 2e3, vertex=(x, y, 0.01)))
    along = x * np.cos(phi) + y * np.sin(phi)
    np.testing.assert_allclose(impact.d0[0], 1e3 * (x * np.sin(phi) - y * np.cos(phi)), atol=1e-4)
    np.testing.assert_allclose(impact.dz[0], 1e3 * (0.01 - along * 0.4), atol=1e-4)


@settings(deadline=None, max_examples=40)
@given(pt=st.floats(0.3, 50.0), x=st.floats(-0.3, 0.3), y=st.floats(-0.3, 0.3), sign=st.sampled_from([-1, 1]))
def test_perigee_does_not_depend_on_where_the_helix_is_picked_up(pt: float, x: float, y: float, sign: int) -> None:
    first = one(sign * PION, pt, 0.4, 0.5 * pt, vertex=(x, y, 0.1))
    signed_radius = sign * pt / (GEV_PER_TESLA_METRE * FIELD)
    length = 0.05
    phi = 0.4 - length / signed_radius
    moved = (
        x + signed_radius * (np.sin(0.4) - np.sin(phi)),
        y - signed_radius * (np.cos(0.4) - np.cos(phi)),
        0.1 + 0.5 * length,
    )
    later = one(sign * PION, pt, phi, 0.5 * pt, vertex=moved)
    centre = np.hypot(x + signed_radius * np.sin(0.4), y - signed_radius * np.cos(0.4))
    if centre < 1e-3 or abs(abs(signed_radius) - centre) > 0.9 * abs(signed_radius):
        return  # far from the axis the closest approach may lie half a turn away, on either side
    a, b = propagate(first), propagate(later)
    np.testing.assert_allclose([a.d0[0], a.perigee_phi[0]], [b.d0[0], b.perigee_phi[0]], atol=1e-6)


def test_what_cannot_be_seen_does_not_reach_the_calorimeter() -> None:
    seen = Particles.concatenate(
        [
            one(PHOTON, 1.0, 0.0, 0.0),
            one(NEUTRINO, 1.0, 0.0, 0.0),
            one(PHOTON, 1.0, 0.0, 0.0, vertex=(1.3, 0.0, 0.0)),
            one(PHOTON, 1.0, 0.0, 0.0, vertex=(0.0, 0.0, 3.1)),
            one(PHOTON, 1e-6, 0.0, 1.0),
        ]
    )
    np.testing.assert_array_equal(reaches_calorimeter(seen), [True, False, False, False, False])
