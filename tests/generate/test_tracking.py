import numpy as np
import pytest

from phaze_ee.generate.propagation import Particles, propagate
from phaze_ee.generate.tracking import measure_impact_parameters, measured_pt, tracking_efficiency

PION, ELECTRON, MUON = 211, 11, 13


@pytest.mark.parametrize(
    ("code", "pt", "eta", "expected"),
    [
        (PION, 0.5, 0.0, 0.70),
        (PION, 5.0, 0.0, 0.95),
        (PION, 0.5, -2.0, 0.60),
        (PION, 5.0, 2.0, 0.85),
        (ELECTRON, 0.5, 0.0, 0.73),
        (ELECTRON, 50.0, 2.0, 0.83),
        (ELECTRON, 200.0, 0.0, 0.99),
        (MUON, 0.5, 2.0, 0.70),
        (MUON, 50.0, 0.0, 0.99),
        (MUON, 2000.0, 0.0, 0.99 * np.exp(-0.5)),
        (PION, 0.1, 0.0, 0.0),
        (MUON, 50.0, 2.6, 0.0),
    ],
)
def test_efficiency_is_that_of_the_card(code: int, pt: float, eta: float, expected: float) -> None:
    assert tracking_efficiency(np.array([code]), np.array([pt]), np.array([eta]))[0] == pytest.approx(expected)


def test_measured_momentum_has_the_resolution_of_the_card() -> None:
    pt = np.full(40_000, 10.0)
    drawn = measured_pt(np.full(len(pt), MUON), pt, np.full(len(pt), 1.0), np.random.default_rng(1))
    assert drawn.mean() == pytest.approx(10.0, rel=1e-3)
    assert drawn.std() / 10 == pytest.approx(np.hypot(0.015, 1.5e-3), rel=0.02)


def test_impact_parameters_are_smeared_by_their_quoted_error() -> None:
    count = 20_000
    none, px = np.zeros(count), np.full(count, 5.0)
    muons = Particles(np.zeros(count, dtype=int), np.full(count, MUON), px, none, none, px, none, none, none)
    measured = measure_impact_parameters(muons, propagate(muons), np.random.default_rng(2))
    assert set(np.unique(measured.d0_error)) <= {0.0283, 0.0258}  # mm, on both sides of the table's edge at 4.48 GeV
    assert (measured.d0 / measured.d0_error).std() == pytest.approx(1, abs=0.02)
    assert (measured.dz / measured.dz_error).std() == pytest.approx(1, abs=0.02)
