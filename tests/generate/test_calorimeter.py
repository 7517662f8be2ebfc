import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phaze_ee.generate.calorimeter import ELECTROMAGNETIC, HADRONIC, Calorimeter, Deposits

GENERATOR_SEED = 5


def deposits(energy: list[float], eta: list[float], phi: list[float], event: list[int] | None = None) -> Deposits:
    return Deposits(np.array(event or [0] * len(energy)), np.array(eta), np.array(phi), np.array(energy))


def perfect(minimum: float = 0.0) -> Calorimeter:
    return Calorimeter(HADRONIC.layout, lambda _eta, energy: 1e-9 * energy, minimum, 0.0)


@settings(deadline=None, max_examples=40)
@given(
    energy=st.lists(st.floats(0.5, 100.0), min_size=1, max_size=30),
    seed=st.integers(0, 1000),
)
def test_perfect_calorimeter_conserves_energy(energy: list[float], seed: int) -> None:
    generator = np.random.default_rng(seed)
    count = len(energy)
    hits = Deposits(
        generator.integers(3, size=count),
        generator.uniform(-2, 2, count),
        generator.uniform(-np.pi, np.pi, count),
        np.array(energy),
    )
    tracked = generator.random(count) < 0.5
    neutral, scale = perfect().measure(hits, hits[tracked], generator)
    for event in range(3):
        seen = neutral.energy[neutral.event == event].sum()
        seen += (hits.energy[tracked] * scale)[hits.event[tracked] == event].sum()
        assert seen == pytest.approx(hits.energy[hits.event == event].sum(), rel=1e-6)


def test_track_without_neutral_company_follows_the_tower_and_vanishes_below_threshold() -> None:
    hits = deposits([20.0, 0.8], [0.1, 1.0], [0.1, 1.0])
    neutral, scale = perfect(minimum=1.0).measure(hits, hits, np.random.default_rng(GENERATOR_SEED))
    assert len(neutral) == 0
    np.testing.assert_allclose(scale, [1.0, 0.0], atol=1e-6)


def test_neutral_excess_is_placed_inside_its_tower_and_leaves_the_track_alone() -> None:
    hits = deposits([10.0, 30.0], [0.05, 0.06], [0.03, 0.04])
    neutral, scale = perfect().measure(hits, hits[:1], np.random.default_rng(GENERATOR_SEED))
    assert neutral.energy[0] == pytest.approx(30.0)
    assert 0.0 < neutral.eta[0] < 0.087
    assert 0.0 < neutral.phi[0] < 2 * np.pi / 72
    assert scale[0] == 1.0


def test_track_beyond_the_towers_is_lost() -> None:
    hits = deposits([10.0, 30.0], [5.2, 0.1], [0.0, 0.0])
    _, scale = perfect().measure(hits, hits, np.random.default_rng(GENERATOR_SEED))
    np.testing.assert_allclose(scale, [0.0, 1.0], atol=1e-6)


def test_events_do_not_share_towers() -> None:
    hits = deposits([10.0, 30.0], [0.1, 0.1], [0.1, 0.1], event=[0, 1])
    neutral, _ = perfect().measure(hits, hits[:0], np.random.default_rng(GENERATOR_SEED))
    np.testing.assert_allclose(neutral.energy, [10.0, 30.0], rtol=1e-6)


def test_smearing_keeps_the_mean_and_has_the_resolution_of_the_card() -> None:
    count = 20_000
    hits = Deposits(np.arange(count), np.full(count, 0.5), np.zeros(count), np.full(count, 100.0))
    neutral, _ = ELECTROMAGNETIC.measure(hits, hits[:0], np.random.default_rng(GENERATOR_SEED))
    sigma = (1 + 0.64 * 0.5**2) * np.sqrt((0.008 * 100) ** 2 + 0.11**2 * 100 + 0.4**2)
    assert neutral.energy.mean() == pytest.approx(100.0, rel=1e-3)
    assert neutral.energy.std() == pytest.approx(sigma, rel=0.03)


@pytest.mark.parametrize(("calorimeter", "rings"), [(ELECTROMAGNETIC, 362), (HADRONIC, 80)])
def test_layout_is_symmetric_and_has_the_rings_of_the_card(calorimeter: Calorimeter, rings: int) -> None:
    layout = calorimeter.layout
    assert len(layout.divisions) == rings
    np.testing.assert_allclose(layout.eta_edges, -layout.eta_edges[::-1])
    assert np.all(np.diff(layout.eta_edges) > 0)
