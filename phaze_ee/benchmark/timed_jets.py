"""The jets that times are taken on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from phaze_ee.data.chunks import split_into_spans
from phaze_ee.data.columns import JetColumns
from phaze_ee.data.rows import RowReader
from phaze_ee.data.schema import DataSchema
from phaze_ee.errors import DataError
from phaze_ee.types import JetInputs

_ROWS = 8  # read at a time; small, so that a few hundred jets come from everywhere


def timed_jets(schema: DataSchema, files: Sequence[Path], count: int) -> JetInputs:
    """Return about ``count`` jets from evenly spaced places of the files, in random order, the same on every run.

    Where jets leave depends on their class, and files often hold one class each: the first jets would not do.

    Raises:
        DataError: a file cannot be used, or no jet from these places passes the selection.
    """
    spans = split_into_spans(files, schema.weaver.treename, _ROWS)
    places = np.unique(np.linspace(0, len(spans) - 1, -(-count // _ROWS)).round().astype(int))
    reader = RowReader(schema, training=False, labelled=False)
    jets = JetColumns.concatenate([reader.read(spans[place]).jets for place in places])
    if len(jets) == 0:
        raise DataError(f"none of the jets to be timed passes the selection {reader.selection!r} of the data config")
    return jets.take(torch.from_numpy(np.random.default_rng(0).permutation(len(jets)))).padded().inputs
