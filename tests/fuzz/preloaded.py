"""Imported by the server that the children are forked from, so that a child starts at once."""

import contextlib
import io

import h5py
import hdf5plugin
import lightning
import matplotlib.pyplot
import pyarrow.parquet
import sklearn.metrics
import uproot

import phaze_ee.data.warm_up
from phaze_ee.modes.registry import MODES

for mode in MODES.values():
    if mode.name not in ("generate", "sweep", "demo"):
        __import__(f"phaze_ee.modes.{mode.name}")

with contextlib.redirect_stdout(io.StringIO()):
    import phaze_ee.training.run

__all__ = ["h5py", "hdf5plugin", "lightning", "matplotlib", "phaze_ee", "pyarrow", "sklearn", "uproot"]
