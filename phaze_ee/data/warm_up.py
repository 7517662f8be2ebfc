"""Imported by the server that worker processes are forked from: loads, once, what reading jets needs.

Loading weaver's compiled padding takes seconds on its own, so it is called here with a single particle.
"""

import awkward as ak
from weaver.utils.data.tools import _fused_pad_and_stack

import phaze_ee.data.rows  # noqa: F401 - the libraries that read files

for pad_mode in ("wrap", "constant"):
    _fused_pad_and_stack(
        {"x": ak.Array([[1.0]])},
        ["x"],
        {"x": {"length": 1, "pad_mode": pad_mode, "center": None, "scale": 1, "min": -5, "max": 5, "pad_value": 0}},
    )
