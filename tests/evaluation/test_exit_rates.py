from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phaze_ee.evaluation.audits import audited_observables, exit_rates
from tests.evaluation.answers import random_answers


def all_of(count: int) -> np.ndarray:
    return np.ones(count, dtype=bool)


def test_an_exit_that_follows_the_observable_is_found() -> None:
    value_N = np.linspace(0, 1, 200)
    (rates,) = exit_rates({"jet_pt": value_N}, (value_N >= value_N[99]).astype(int), 2, "all", all_of(200))
    assert rates.association == pytest.approx(1, abs=0.03)  # a little is taken off for chance
    assert rates.p_value < 1e-20
    assert rates.rates == [[1.0] * 5 + [0.0] * 5, [0.0] * 5 + [1.0] * 5]
    assert sum(rates.jets) == 200
    np.testing.assert_allclose(rates.jets, 20, atol=1)


def test_an_exit_by_chance_is_not() -> None:
    random = np.random.default_rng(1)
    observables = {"jet_pt": random.normal(size=5_000)}
    (rates,) = exit_rates(observables, random.integers(0, 3, 5_000), 3, "all", all_of(5_000))
    assert rates.association < 0.06
    assert rates.p_value > 0.01
    np.testing.assert_allclose(np.sum(rates.rates, axis=0), 1)
    np.testing.assert_allclose(rates.errors, 0.021, atol=0.002)  # √(1/3 · 2/3 / 500)


def test_one_exit_alone_depends_on_nothing() -> None:
    (rates,) = exit_rates({"jet_pt": np.arange(100.0)}, np.zeros(100, dtype=int), 2, "all", all_of(100))
    assert (rates.association, rates.p_value) == (0, 1)


def test_only_the_chosen_jets_with_a_value_count() -> None:
    value_N = np.r_[np.arange(100.0), np.full(20, np.nan), np.full(20, np.inf)]
    chosen_N = np.arange(140) != 7
    (rates,) = exit_rates({"jet_pt": value_N}, np.zeros(140, dtype=int), 2, "all", chosen_N)
    assert sum(rates.jets) == 99


@pytest.mark.parametrize("value_N", [np.arange(30.0), np.full(500, 3.0), np.full(500, np.nan)])
def test_too_few_jets_or_values_give_nothing(value_N: np.ndarray) -> None:
    count = len(value_N)
    assert exit_rates({"jet_pt": value_N}, np.zeros(count, dtype=int), 2, "all", all_of(count)) == []


@given(st.lists(st.integers(0, 6), min_size=40, max_size=300))
def test_no_bin_is_empty_however_many_jets_share_a_value(values: list[int]) -> None:
    value_N = np.array(values, dtype=float)
    for rates in exit_rates({"n": value_N}, np.arange(len(values)) % 2, 2, "all", all_of(len(values))):
        assert min(rates.jets) > 0
        assert sum(rates.jets) == len(values)
        assert all(
            low <= centre <= high
            for low, centre, high in zip(rates.edges, rates.centres, rates.edges[1:], strict=False)
        )


def test_observables_are_those_that_are_there_and_the_particles_at_least() -> None:
    sample = random_answers(10)
    observables = audited_observables(sample)
    assert list(observables) == ["jet_pt", "jet_nparticles", "jet_sdmass"]
    np.testing.assert_array_equal(observables["jet_nparticles"], sample.particle_count_N)
    counted = replace(sample, observers={"jet_nparticles": np.full(10, 200), "jet_energy": np.zeros(10)})
    assert audited_observables(counted)["jet_nparticles"].tolist() == [200] * 10
