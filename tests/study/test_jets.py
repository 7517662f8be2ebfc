"""The identity of the jets of the study."""

from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from benchmarks.study.jets import TREE, Chunk, jets_hash
from phaze_ee.errors import UsageError


def written(folder: Path, energies: list[list[float]], name: str = "HToBB_000.root") -> list[Path]:
    """Write a file with a column of particles and a column of jets."""
    folder.mkdir()
    jets = {"part_energy": ak.values_astype(ak.Array(energies), np.float32), "label": np.arange(len(energies))}
    with uproot.recreate(folder / name) as file:
        file[TREE] = jets
    return [folder / name]


def test_jets_that_are_written_again_have_the_same_hash(tmp_path: Path) -> None:
    first, again = (written(tmp_path / name, [[1.0, 2.0], [], [3.0]]) for name in ("first", "again"))
    assert first[0].read_bytes() != again[0].read_bytes()
    assert jets_hash(first) == jets_hash(again)


def test_other_jets_have_another_hash(tmp_path: Path) -> None:
    same = jets_hash(written(tmp_path / "a", [[1.0, 2.0], [], [3.0]]))
    assert jets_hash(written(tmp_path / "b", [[1.0, 2.5], [], [3.0]])) != same  # a number
    assert jets_hash(written(tmp_path / "c", [[1.0], [2.0], [3.0]])) != same  # a boundary
    assert jets_hash(written(tmp_path / "d", [[1.0, 2.0], [], [3.0]], "HToCC_000.root")) != same  # the class


def test_what_keeps_generate_from_running_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "jets").write_text("a file where the folder should be")
    with pytest.raises(UsageError, match=r"the jets of .*/jets/000 could not be generated: phaze_ee: error: "):
        Chunk("train", 0, tmp_path / "jets" / "000").make()
