"""What a data configuration leaves to be computed from training files: standardisation and reweighting."""

import copy
import logging
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
from weaver.utils.data.config import DataConfig
from weaver.utils.data.preprocess import AutoStandardizer, WeightMaker

from phaze_ee.data.sources import open_source
from phaze_ee.data.table import Span, check_finite, selected_table
from phaze_ee.errors import DataError

logger = logging.getLogger(__name__)


def standardisation(config: DataConfig, files: Sequence[Path]) -> dict[str, Any]:
    """Return weaver's preprocessing parameters with the ``auto`` centres and scales computed.

    As in weaver: centre is the median, 1/scale the larger distance to the 16 % and 84 % quantiles, both from the first
    ``data_fraction`` of each file.

    Raises:
        DataError: a file cannot be used, or a value is NaN or infinite.
    """
    standardizer = AutoStandardizer([], config)
    parameters = standardizer._data_config.preprocess_params
    automatic = {name for name, own in parameters.items() if own["center"] == "auto"}
    for name in automatic:
        if name.endswith("_mask"):
            parameters[name]["center"] = None
    names = {name for name in automatic if parameters[name]["center"] == "auto"}
    table = _rows_of(config, files, names, standardizer.load_range[1])
    resolved: dict[str, Any] = standardizer.make_preprocess_params(table)
    return resolved


def reweighting(config: DataConfig, files: Sequence[Path]) -> dict[str, list[list[float]]]:
    """Return weaver's histogram of sampling weights for each reweighting class.

    Jets outside all bins and classes are left out before weaver sees them: their weight is 0 anyway.

    Raises:
        DataError: a file cannot be used, or a class has no jet in the bins.
    """
    names = {*config.reweight_branches, *config.reweight_classes}
    names |= {config.basewgt_name} if config.reweight_basewgt else set()
    table = _rows_of(config, files, names)
    used = table[_in_one_bin_and_class(table, config)]
    if len(used) < len(table):
        logger.warning("%d of %d jets are outside the reweighting bins or classes", len(table) - len(used), len(table))
    for label in config.reweight_classes:
        if not ak.any(used[label] == 1):
            raise DataError(f"no training jet of class {label} lies in the bins of weights.reweight_vars; correct them")
    with np.errstate(all="ignore"):  # empty bins
        histograms: Mapping[str, Any] = WeightMaker([], config).make_weights(used)
    return {label: histogram.tolist() for label, histogram in histograms.items()}


def resolved_options(options: Mapping[str, Any], config: DataConfig, files: Sequence[Path]) -> dict[str, Any]:
    """Return the options with everything computed that they leave to the training files."""
    resolved = copy.deepcopy(dict(options))
    if any(own["center"] == "auto" for own in config.preprocess_params.values()):
        resolved["preprocess"]["params"] = standardisation(config, files)
    weights = resolved.get("weights")
    if weights and not weights["use_precomputed_weights"] and not weights.get("reweight_hists"):
        weights["reweight_hists"] = reweighting(config, files)
    return resolved


def _rows_of(config: DataConfig, files: Iterable[Path], names: Collection[str], fraction: float = 1) -> ak.Array:
    """Return some variables of the first ``fraction`` of the rows of each file."""
    tables = []
    for path in files:
        with open_source(path, config.treename) as source:
            rows = source.row_count
        if rows:
            span = Span(path, 0, max(1, math.trunc(fraction * rows)))
            tables.append(selected_table(config, span, names, config.selection, training=True))
            for name in names:
                check_finite(tables[-1], name, path)
    if not sum(map(len, tables)):
        raise DataError(f"no training jet passes the selection {config.selection!r}; loosen it")
    return ak.concatenate(tables)


def _in_one_bin_and_class(table: ak.Array, config: DataConfig) -> ak.Array:
    inside = sum(table[label] == 1 for label in config.reweight_classes) == 1
    if config.reweight_discard_under_overflow:
        for name, edges in zip(config.reweight_branches, config.reweight_bins, strict=True):
            inside = inside & (table[name] >= min(edges)) & (table[name] <= max(edges))
    return inside
