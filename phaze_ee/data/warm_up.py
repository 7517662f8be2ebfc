"""Imported by the server that worker processes are forked from: loads the libraries for reading jets once.

Loading compiled loops, weaver's and ours, takes seconds, so they are called here with a single particle.
"""

import awkward as ak
import numpy as np
from weaver.utils.data.tools import _fused_pad_and_stack

from phaze_ee.compiled import without_extensions
from phaze_ee.data.jet_columns import interleave

PARAMETERS = {"length": 1, "center": None, "scale": 1, "min": -5, "max": 5, "pad_value": 0}

with without_extensions():
    for pad_mode in ("wrap", "constant"):
        _fused_pad_and_stack({"x": ak.Array([[1.0]])}, ["x"], {"x": {**PARAMETERS, "pad_mode": pad_mode}})

row_1 = np.zeros(1, dtype=np.float32)
from_file_1 = np.frombuffer(bytes(4), dtype=np.float32)  # read-only, which numba compiles separately
for rows in (row_1, from_file_1):
    interleave([rows] * 4, np.empty((1, 4), dtype=np.float32))
