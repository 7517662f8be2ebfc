import numpy as np
import pytest

from phaze_ee.generate.events import Record
from phaze_ee.generate.jets import Jets
from phaze_ee.generate.processes import PROCESSES
from phaze_ee.generate.truth import find_decays, match

# PDG code, first and last daughter (the row itself where there are none), phi. All have pt = 100 GeV and eta = 0.
Entry = tuple[int, int, int, float]
W_PAIR: list[Entry] = [
    (25, 1, 1, 0.0),  # the Higgs before
    (25, 2, 3, 0.0),  # and after recoil
    (24, 4, 5, 0.1),
    (-24, 6, 7, -0.1),
    (2, 4, 4, 0.3),
    (-1, 5, 5, 0.2),
    (11, 8, 9, -0.3),
    (-12, 7, 7, -2.0),
    (11, 8, 8, -0.4),  # the electron after it radiated
    (22, 9, 9, -0.3),
]


def record(entries: list[Entry]) -> Record:
    codes, first, last, phi = (np.array(column) for column in zip(*entries, strict=True))
    rows, zero = np.arange(len(codes)), np.zeros(len(codes))
    return Record(
        event=zero.astype(int),
        pdg_id=codes,
        first_daughter=first,
        last_daughter=last,
        final=first == rows,
        px=100 * np.cos(phi),
        py=100 * np.sin(phi),
        pz=zero,
        energy=np.full(len(codes), 100.0),
        x=zero,
        y=zero,
        z=zero,
    )


def jet_at(phi: float) -> Jets:
    return Jets(np.array([0]), np.array([600.0]), np.array([0.0]), np.array([phi]), np.array([700.0]))


def test_legs_are_quarks_before_and_leptons_after_radiation() -> None:
    ((decay,),) = find_decays(PROCESSES["HToWW2Q1L"], record(W_PAIR)).values()
    np.testing.assert_allclose(decay.leg_phi, [0.3, 0.2, -0.4])
    assert decay.pdg_id == 25


@pytest.mark.parametrize(("phi", "inside"), [(0.0, True), (0.39, True), (0.41, False), (-0.49, True), (-0.51, False)])
def test_a_jet_matches_if_all_legs_lie_within_its_radius(phi: float, inside: bool) -> None:
    matched, truth = match(PROCESSES["HToWW2Q1L"], record(W_PAIR), jet_at(phi))
    assert matched.tolist() == [inside]
    assert truth.code.tolist() == [46] * inside


def test_a_decay_into_other_legs_is_not_wanted() -> None:
    assert find_decays(PROCESSES["HToWW4Q"], record(W_PAIR)) == {}
    assert find_decays(PROCESSES["HToBB"], record(W_PAIR)) == {}


def test_background_needs_no_match() -> None:
    matched, truth = match(PROCESSES["ZJetsToNuNu"], record(W_PAIR), jet_at(3.0))
    assert matched.all()
    assert (truth.code[0], truth.pt[0]) == (50, 0)


@pytest.mark.parametrize(
    ("stem", "legs", "code"),
    [
        ("HToBB", (5, 5), 41),
        ("HToCC", (4, 4), 42),
        ("HToGG", (21, 21), 44),
        ("HToWW4Q", (2, 1, 4, 3), 45),
        ("ZToQQ", (5, 5), 31),
        ("ZToQQ", (4, 4), 32),
        ("ZToQQ", (1, 1), 33),
        ("WToQQ", (4, 3), 21),
        ("WToQQ", (2, 1), 22),
        ("TTBar", (5, 4, 3), 11),
        ("TTBar", (5, 2, 1), 12),
        ("TTBar", (5, 4, 5), 11),
        ("TTBarLep", (5, 11), 15),
        ("TTBarLep", (5, 13), 16),
    ],
)
def test_codes_are_those_of_jetclass(stem: str, legs: tuple[int, ...], code: int) -> None:
    assert PROCESSES[stem].truth_code(legs) == code
