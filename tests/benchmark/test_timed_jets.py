from pathlib import Path

import numpy as np
import pytest

from phaze_ee.benchmark.latency import timed_jets
from phaze_ee.errors import DataError
from tests.data.small import jet_columns, schema
from tests.jetclass_files import LABELS, write_root

COUNTS = (100, 60, 40)  # file n has jets of n + 1 particles


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [
        write_root(tmp_path / f"{index}.root", jet_columns(count, particles=np.full(count, index + 1)))
        for index, count in enumerate(COUNTS)
    ]


def test_jets_come_from_all_files_and_mixed(files: list[Path]) -> None:
    jets = timed_jets(schema(), files, 80)
    particles = jets.particle_count_N.numpy()
    assert len(jets) == pytest.approx(80, abs=16)
    assert set(particles) == {1, 2, 3}
    assert 0.3 < (particles == 1).mean() < 0.7
    assert (np.diff(particles) != 0).sum() > 10
    np.testing.assert_array_equal(particles, timed_jets(schema(), files, 80).particle_count_N)


def test_fewer_jets_than_wanted_are_taken_once(files: list[Path]) -> None:
    assert len(timed_jets(schema(), files, 10_000)) == sum(COUNTS)


def test_a_prior_gives_the_classes_their_shares(tmp_path: Path) -> None:
    label_N = (np.arange(300) < 20).astype(int)
    flags = {name: (label_N == index).astype(np.int32) for index, name in enumerate(LABELS)}
    file = write_root(tmp_path / "jets.root", jet_columns(300, particles=label_N + 1) | flags)
    prior = dict(zip(schema().class_names, (0.99, 0.01), strict=False))
    particles = timed_jets(schema(), [file], 1000, prior).particle_count_N.numpy()
    assert np.bincount(particles).tolist() == [0, 990, 10]
    assert particles[:900].max() == 2
    with pytest.raises(DataError, match="these files hold no such jets"):
        timed_jets(schema(), [file], 100, {schema().class_names[-1]: 1.0})


def test_a_selection_that_nothing_passes(files: list[Path]) -> None:
    with pytest.raises(DataError, match="none of the jets to be timed"):
        timed_jets(schema(test_time_selection="part_energy[:, 0] < 0"), files, 40)
