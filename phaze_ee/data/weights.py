"""Sampling weights of jets, and the histograms that they are computed from, by weaver's own functions."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt
from weaver.utils.data import preprocess
from weaver.utils.data.config import DataConfig
from weaver.utils.data.preprocess import WeightMaker, _build_weights

from phaze_ee.data.branches import weight_names
from phaze_ee.data.table import ROW, check_one_per_jet, training_tables
from phaze_ee.errors import DataError

logger = logging.getLogger(__name__)

# weaver repeats these two for each block of jets; reweighting() says it once, in one line.
_SAID_ONCE = ("Only %d (out of %d) events actually used", "Not all selected events used")
logging.getLogger("weaver").addFilter(lambda record: not str(record.msg).startswith(_SAID_ONCE))


def jet_weights(table: ak.Array, config: DataConfig, path: Path) -> npt.NDArray[np.float32]:
    """Return the sampling weight of each jet, as weaver computes it.

    Args:
        table: the jets, with the columns of :func:`weight_names`.
        config: weaver's configuration, with the histograms of the reweighting.
        path: their file, for errors.

    Raises:
        DataError: a variable is not one finite number per jet, or a weight is negative; with file and row.
    """
    _check_variables(table, config, path)
    weight_N: npt.NDArray[np.float32] = _build_weights(table, config)
    return weight_N


def reweighting(config: DataConfig, files: Sequence[Path]) -> dict[str, list[list[float]]]:
    """Return weaver's histogram of sampling weights for each reweighting class.

    Raises:
        DataError: a file cannot be used, a class has no jet or no weight in the bins, or weaver finds no weights.
    """
    tables = []
    for path, found in training_tables(config, files, weight_names(config)):
        _check_variables(found, config, path)
        tables.append(found)
    table = ak.concatenate(tables)
    inside = _inside(table, config)
    classes_N = sum(ak.values_astype(table[label] == 1, np.int64) for label in config.reweight_classes)
    unused, several = int(ak.sum(~inside | (classes_N == 0))), int(ak.sum(classes_N > 1))
    if unused:
        logger.warning("%d of %d jets are outside the reweighting bins or classes: weight 0", unused, len(table))
    if several:
        last = "the weight of the last one counts"
        logger.warning("%d of %d jets are in several of weights.reweight_classes: %s", several, len(table), last)
    _check_classes(table[inside], config)
    with np.errstate(all="ignore"), _without_pause():  # empty bins
        try:
            histograms: Mapping[str, Any] = WeightMaker([], config).make_weights(table)
        except IndexError as error:
            reference = config.reweight_classes[0]
            raise DataError(
                f"weights.reweight_method 'ref': a class has no jet in the bins where {reference} has some; make the "
                "bins of weights.reweight_vars wider"
            ) from error
    _check_histograms(histograms)
    return {label: histogram.tolist() for label, histogram in histograms.items()}


def _check_variables(table: ak.Array, config: DataConfig, path: Path) -> None:
    for name in sorted(weight_names(config)):
        formula = config.var_funcs.get(name, name)
        is_weight = name in (config.weight_name, config.basewgt_name)
        shown = f"sampling weight {formula}" if is_weight else name
        check_one_per_jet(table, name, path, shown)
        if is_weight:
            _check_not_negative(table, name, path, shown)


def _check_not_negative(table: ak.Array, name: str, path: Path, shown: str) -> None:
    weight_N = ak.to_numpy(table[name])
    if (weight_N < 0).any():
        first = int(np.argmax(weight_N < 0))
        raise DataError(
            f"{path} row {table[ROW][first]}: {shown} is negative ({weight_N[first]:g}), "
            "and such a jet cannot be drawn; use np.maximum(…, 0) or np.abs(…), or cut such jets away by selection"
        )


def _inside(table: ak.Array, config: DataConfig) -> ak.Array:
    """Return which jets count: those in the bins, or all where those outside go into the outermost bins."""
    inside = ak.ones_like(table[ROW], dtype=np.bool_)
    if config.reweight_discard_under_overflow:
        for name, edges in zip(config.reweight_branches, config.reweight_bins, strict=True):
            inside = inside & (table[name] >= min(edges)) & (table[name] <= max(edges))
    return inside


def _check_classes(used: ak.Array, config: DataConfig) -> None:
    for label in config.reweight_classes:
        of_class = used[used[label] == 1]
        if not len(of_class):
            raise DataError(f"no training jet of class {label} lies in the bins of weights.reweight_vars; correct them")
        if config.reweight_basewgt and not ak.any(of_class[config.basewgt_name]):
            raise DataError(
                f"weights.reweight_basewgt is 0 for all training jets of class {label} in the bins; correct it"
            )


def _check_histograms(histograms: Mapping[str, npt.NDArray[np.floating]]) -> None:
    for label, histogram in histograms.items():
        if not np.isfinite(histogram).all():
            raise DataError(
                f"weaver finds no weights for class {label}: most training jets have weight 0; correct the bins, the "
                "classes, class_weights or reweight_threshold of the section weights"
            )


@contextmanager
def _without_pause() -> Iterator[None]:
    """Keep weaver from sleeping for ten seconds after a warning."""
    module: Any = preprocess
    before = module.time
    module.time = SimpleNamespace(sleep=lambda seconds: None)
    try:
        yield
    finally:
        module.time = before
