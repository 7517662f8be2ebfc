"""Which class a jet has, and which jets have none."""

from pathlib import Path

import numpy as np
import pytest

from phaze_ee.data.rows import RowReader
from phaze_ee.data.table import Span
from phaze_ee.errors import DataError
from tests.data.small import jet_columns, schema
from tests.jetclass_files import LABELS, write_root

FLAGS = [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.0, 0.0), (0.5, 0.5), (2.0, -1.0), (0.0, 1.0)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    count = len(FLAGS)
    flags = {name: np.zeros(count) for name in LABELS} | dict(zip(LABELS, np.array(FLAGS).T, strict=False))
    return write_root(tmp_path / "jets.root", jet_columns(count) | flags)


def test_scores_need_no_class_and_jets_without_exactly_one_have_none(path: Path) -> None:
    read = RowReader.of_file(schema(), path).read(Span(path, 0, len(FLAGS)))
    assert read.jets.label_N.tolist() == [0, 1, -1, -1, -1, -1, 1]


def test_scores_of_labels_that_cannot_be_computed_have_no_class(path: Path) -> None:
    value = ["jet_index[:, 0] == 0", "jet_index[:, 0] != 0"]
    own = schema(labels={"type": "simple", "value": value, "names": ["first", "other"]})
    read = RowReader.of_file(own, path).read(Span(path, 0, len(FLAGS)))
    assert read.jets.label_N.tolist() == [-1] * len(FLAGS)


@pytest.mark.parametrize(("row", "total"), [(2, "2"), (3, "0"), (4, "1"), (5, "1")])
def test_a_training_needs_exactly_one_class_for_each_jet(path: Path, row: int, total: str) -> None:
    reader = RowReader(schema(), training=True)
    with pytest.raises(DataError, match=rf"jets\.root row {row}: the labels .* sum to {total}; exactly one"):
        reader.read(Span(path, row, row + 1))
