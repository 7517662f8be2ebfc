"""Automatic standardisation and reweighting equal weaver's, and reach the loaders."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from weaver.utils.data.preprocess import AutoStandardizer, WeightMaker

from phaze_ee.data.epochs import resample
from phaze_ee.data.loaders import training_loader
from phaze_ee.data.rows import RowReader
from phaze_ee.data.schema import DataSchema
from phaze_ee.data.table import Span
from phaze_ee.errors import DataError
from tests.data.small import OPTIONS, jet_columns, schema
from tests.jetclass_files import write_root

WEIGHTS: dict[str, Any] = {
    "use_precomputed_weights": False,
    "reweight_method": "flat",
    "reweight_vars": {"jet_x": [0, 1, 2, 4], "jet_y": [0, 1]},
    "reweight_classes": ["is_a", "is_b"],
    "class_weights": [1, 1],
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    columns = jet_columns(400)
    rng = np.random.default_rng(1)
    is_a = (rng.uniform(size=400) < 0.2).astype(np.int32)
    jet_x = np.clip(rng.exponential(0.8 + is_a), 0, 3.9)
    return write_root(
        tmp_path_factory.mktemp("jets") / "jets.root",
        {**columns, "is_a": is_a, "is_b": 1 - is_a, "jet_x": jet_x, "jet_y": rng.uniform(size=400)},
    )


@pytest.fixture
def automatic() -> DataSchema:
    names = {"part_pt_log": None, "part_e_log": None, "part_charge": None}
    groups = {
        name: {
            **group,
            "vars": list(names)
            if name == "pf_features"
            else [[*np.atleast_1d(var)[:1], None] for var in group["vars"]],
        }
        for name, group in OPTIONS["inputs"].items()
    }
    return schema(inputs=groups, preprocess={"method": "auto", "data_fraction": 0.5}, selection="jet_x < 3")


def test_standardisation_equals_that_of_weaver(path: Path, automatic: DataSchema) -> None:
    theirs = AutoStandardizer([str(path)], automatic.weaver).produce().preprocess_params
    resolved = automatic.resolve([path])
    assert resolved.weaver.preprocess_params == theirs
    assert not resolved.needs_standardisation
    assert DataSchema.from_options(resolved.options) == resolved
    RowReader(resolved, training=False)
    with pytest.raises(DataError, match="automatic standardisation"):
        RowReader(automatic, training=False).read(Span(path, 0, 2))


def test_nothing_to_resolve(path: Path) -> None:
    manual = schema()
    assert manual.resolve([path]) is manual


@pytest.mark.parametrize("method", ["flat", "ref"])
def test_reweighting_equals_that_of_weaver(method: str, path: Path) -> None:
    own = schema(weights={**WEIGHTS, "reweight_method": method}, labels={"type": "simple", "value": ["is_a", "is_b"]})
    with np.errstate(all="ignore"):
        theirs = WeightMaker([str(path)], own.weaver).produce().reweight_hists
    resolved = own.resolve([path])
    for label, histogram in theirs.items():
        np.testing.assert_allclose(resolved.options["weights"]["reweight_hists"][label], histogram, rtol=1e-6)


def test_reweighting_makes_classes_equal_and_flat(path: Path) -> None:
    own = schema(
        weights=WEIGHTS,
        labels={"type": "simple", "value": ["is_a", "is_b"]},
        observers=None,
        monitor_variables=["jet_x"],
    ).resolve([path])
    loader = training_loader(own, [path], batch_size=50, num_workers=0, seed=1)
    labels, bins = [], []
    for batch in loader:
        labels += batch.label_N.tolist()
        bins += np.digitize(batch.observers["jet_x"].astype(float), [1, 2]).tolist()
    assert len(labels) == loader.jet_count
    assert abs(np.mean(labels) - 0.5) < 0.05, "one jet in five is of class a before"
    of_a = np.bincount(np.array(bins)[np.array(labels) == 0], minlength=3)
    assert of_a.max() < 1.6 * of_a.min()


def test_a_class_without_jets_in_the_bins(path: Path) -> None:
    wrong = {**WEIGHTS, "reweight_vars": {"jet_x": [50, 60], "jet_y": [0, 1]}}
    with pytest.raises(DataError, match="no training jet of class is_a lies in the bins"):
        schema(weights=wrong, labels={"type": "simple", "value": ["is_a", "is_b"]}).resolve([path])


def test_resampling_draws_in_proportion() -> None:
    weights = np.array([1.0, 0.5, 0.0, 0.25, 7.0])
    rng = np.random.default_rng(0)
    draws = np.stack(
        [np.bincount(resample(weights, (np.arange(5) + rng.uniform()) / 5, rng), minlength=5) for _ in range(4000)]
    )
    assert (draws.sum(axis=1) == 5).all()
    expected = 5 * np.array([1, 0.5, 0, 0.25, 1]) / 2.75
    np.testing.assert_allclose(draws.mean(axis=0), expected, atol=0.03)
    assert np.abs(draws - expected).max() < 1, "systematic: never more than one off"
