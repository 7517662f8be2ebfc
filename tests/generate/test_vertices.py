"""Secondary vertices from the truth."""

import numpy as np
import pytest

from phaze_ee.generate.jets import Jets
from phaze_ee.generate.propagation import Particles
from phaze_ee.generate.vertices import find_vertices, vertices_of_jets

PION_MASS = 0.13957
# Where the decay is (m), and the momenta (GeV) of its two pions.
PLACE = (0.006, 0.002, 0.004)
MOMENTA = np.array([[12.0, 5.0, 7.0], [6.0, 1.0, 5.0]])


def pions(events: int, place: tuple[float, float, float] = PLACE, code: int = 211) -> Particles:
    """Two pions of opposite charge from one place, in each of some events."""
    momentum = np.tile(MOMENTA, (events, 1))
    count = len(momentum)
    x, y, z = (np.full(count, coordinate) for coordinate in place)
    return Particles(
        event=np.arange(count) // 2,
        pdg_id=np.where(np.arange(count) % 2, -code, code),
        px=momentum[:, 0],
        py=momentum[:, 1],
        pz=momentum[:, 2],
        energy=np.sqrt((momentum**2).sum(axis=1) + PION_MASS**2),
        x=x,
        y=y,
        z=z,
    )


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def test_tracks_from_one_place_are_a_vertex() -> None:
    found = find_vertices(pions(4_000), rng())
    assert len(found) / 4_000 == pytest.approx(0.95**2, abs=0.02)  # the efficiency of the tracker, twice
    assert (found.tracks == 2).all()
    assert len(np.unique(found.event)) == len(found)
    np.testing.assert_allclose(np.stack([found.px, found.py, found.pz], axis=1)[0], MOMENTA.sum(axis=0))
    energy = np.sqrt((MOMENTA**2).sum(axis=1) + PION_MASS**2).sum()
    np.testing.assert_allclose(found.mass, np.sqrt(energy**2 - (MOMENTA.sum(axis=0) ** 2).sum()))


def test_distances_are_smeared_by_their_quoted_errors() -> None:
    found = find_vertices(pions(4_000), rng())
    for measured, error, true in (
        (found.d3d, found.d3d_error, 1e3 * np.linalg.norm(PLACE)),
        (found.dxy, found.dxy_error, 1e3 * np.hypot(*PLACE[:2])),
    ):
        pull = (measured - true) / error
        assert pull.std() == pytest.approx(1, abs=0.05)
        assert pull.mean() == pytest.approx(0, abs=0.06)
    angle = MOMENTA.sum(axis=0) @ PLACE / np.linalg.norm(MOMENTA.sum(axis=0)) / np.linalg.norm(PLACE)
    assert found.cos_theta.mean() == pytest.approx(angle, abs=1e-3)


@pytest.mark.parametrize(
    "particles",
    [
        pions(20, place=(0.0, 0.0, 0.0)),
        pions(20, place=(5e-5, 0.0, 0.3)),
        pions(20, place=(0.06, 0.0, 0.0)),
        pions(20, code=130),
        pions(20)[np.arange(40) % 2 == 0],
    ],
    ids=["collision point", "near the beam", "in the material", "neutral", "one track"],
)
def test_what_is_no_vertex(particles: Particles) -> None:
    assert len(find_vertices(particles, rng())) == 0


def test_vertices_go_to_the_jets_around_them() -> None:
    near, far = pions(2), pions(2, place=(0.008, 0.003, 0.001))
    found = find_vertices(Particles.concatenate([near, far]), np.random.default_rng(4))
    eta, phi = found.eta[0], found.phi[0]
    event = np.array([0, 0, 1, 2])
    jets = Jets(event, np.full(4, 600.0), eta + np.array([0.3, 2.0, 0.0, 0.0]), np.full(4, phi), np.full(4, 700.0))
    own, counts = vertices_of_jets(found, jets)
    expected = [int((found.event == 0).sum()), 0, int((found.event == 1).sum()), 0]
    assert counts.tolist() == expected
    assert own.event.tolist() == [0] * expected[0] + [1] * expected[2]
    significance = own.d3d / own.d3d_error
    assert (np.diff(significance[: expected[0]]) <= 0).all()
