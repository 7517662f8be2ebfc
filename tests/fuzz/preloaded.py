"""Imported by the server that the children are forked from, so that a child starts at once."""

import importlib
import pkgutil

import h5py
import hdf5plugin
import lightning
import matplotlib.pyplot
import pyarrow.parquet
import sklearn.metrics
import uproot

import phaze_ee
import phaze_ee.data.warm_up
import tests.end_to_end.dying
import tests.fuzz.campaign
import tests.fuzz.kinds

_OPTIONAL = (
    "phaze_ee.generate",
    "phaze_ee.sweep",
    "phaze_ee.modes.generate",
    "phaze_ee.modes.sweep",
    "phaze_ee.__main__",
)

for module in pkgutil.walk_packages(phaze_ee.__path__, "phaze_ee."):
    if not module.name.startswith((*_OPTIONAL, "phaze_ee.workspaces", "phaze_ee.network_configs")):
        importlib.import_module(module.name)

__all__ = ["h5py", "hdf5plugin", "lightning", "matplotlib", "phaze_ee", "pyarrow", "sklearn", "tests", "uproot"]
