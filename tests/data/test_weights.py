"""Histograms and weights of a reweighting are weaver's, bit for bit; the section ``weights`` is checked."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from weaver.utils.data import preprocess
from weaver.utils.data.preprocess import WeightMaker, _build_weights

from phaze_ee.data.loaders import training_loader
from phaze_ee.data.rows import RowReader
from phaze_ee.data.schema import DataSchema
from phaze_ee.data.table import Span
from phaze_ee.errors import DataError
from tests.data.small import jet_columns, options, schema, write_yaml
from tests.jetclass_files import write_root

JETS = 300
LABELS = {"type": "simple", "value": ["is_a", "is_b"]}
WEIGHTS: dict[str, Any] = {
    "use_precomputed_weights": False,
    "reweight_method": "flat",
    "reweight_vars": {"jet_x": [0, 1, 2.5, 4], "jet_y": [0.1, 0.5, 0.9]},
    "reweight_classes": ["is_a", "is_b"],
}


def columns(seed: int) -> dict[str, Any]:
    """Return jets that lie outside of bins, on their edges, in both classes or in none, with weights from 0 to 5."""
    rng = np.random.default_rng(seed)
    is_a = (rng.uniform(size=JETS) < 0.3).astype(np.int32)
    jet_x = rng.exponential(1 + is_a).astype(np.float32)
    jet_x[:4] = [0, 1, 4, -1]
    others = {
        "is_a": is_a,
        "is_b": 1 - is_a,
        "tagged_a": np.where(np.arange(JETS) % 9 == 0, 1, is_a),  # some jets are in both
        "tagged_b": np.where(np.arange(JETS) % 7 == 0, 0, 1 - is_a),  # some in none
        "jet_x": jet_x,
        "jet_y": rng.uniform(size=JETS),
        "jet_w": rng.exponential(size=JETS).round(1).astype(np.float32),
    }
    return {**jet_columns(JETS, seed), **others}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("jets")
    return [write_root(folder / f"{seed}.root", columns(seed)) for seed in range(2)]


def weighted(**weights: Any) -> DataSchema:
    return schema(labels=LABELS, observers=None, weights={**WEIGHTS, **weights}, selection="jet_x < 5")


TAGGED = {"reweight_classes": ["tagged_a", "tagged_b"]}


@pytest.mark.parametrize(
    "weights",
    [
        {},
        {"reweight_method": "ref"},
        {"class_weights": [1, 0.00045]},
        {"class_weights": [0, 1]},
        {"reweight_threshold": 40},
        {"reweight_discard_under_overflow": False},
        {"reweight_basewgt": "jet_w"},
        {"reweight_basewgt": "jet_w * 2 + 1", "reweight_method": "ref", "reweight_discard_under_overflow": False},
        {"reweight_basewgt": "jet_w", "reweight_threshold": 25, **TAGGED},
        {**TAGGED},
        {**TAGGED, "reweight_method": "ref", "reweight_discard_under_overflow": False},
        {"reweight_vars": {"jet_x": [0, 1, float("inf")], "jet_y": [-100, 100]}},
    ],
)
def test_histograms_and_weights_are_those_of_weaver(
    weights: dict[str, Any], paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = weighted(**weights)
    resolved = own.resolve(paths)
    monkeypatch.setattr(preprocess.time, "sleep", lambda seconds: None)
    maker = WeightMaker([str(path) for path in paths], own.weaver)
    with np.errstate(all="ignore"):
        theirs = maker.produce()
    ours = resolved.options["weights"]["reweight_hists"]
    assert list(ours) == list(theirs.reweight_hists)
    for label, histogram in theirs.reweight_hists.items():
        np.testing.assert_array_equal(np.array(ours[label], np.float32), histogram.astype(np.float32))
    reader = RowReader(resolved, training=True)
    for path in paths:
        expected: npt.NDArray[Any] = _build_weights(maker.read_file([str(path)]), resolved.weaver)
        row_N, weight_N = reader.survey(Span(path, 0, JETS))
        np.testing.assert_array_equal(weight_N, expected)
        assert 0 < (weight_N > 0).sum() < len(weight_N) or not own.weaver.reweight_discard_under_overflow
        read = reader.read(Span(path, 0, JETS))
        assert read.weight_N is not None
        np.testing.assert_array_equal(read.weight_N, expected)
        np.testing.assert_array_equal(read.row_N, row_N)


def test_jets_without_weight_are_told_once(
    paths: list[Path], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pause(seconds: float) -> None:
        raise AssertionError("weaver sleeps for ten seconds")

    monkeypatch.setattr(preprocess.time, "sleep", pause)
    resolved = weighted(**TAGGED).resolve(paths)
    weight_N = np.concatenate([RowReader(resolved, training=True).survey(Span(path, 0, JETS))[1] for path in paths])
    content = [columns(seed) for seed in range(2)]
    several = sum(((own["tagged_a"] & own["tagged_b"]) & (own["jet_x"] < 5)).sum() for own in content)
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    outside = f"{(weight_N == 0).sum()} of {len(weight_N)} jets are outside the reweighting bins or classes: weight 0"
    last = "the weight of the last one counts"
    assert told == [
        outside, f"{several} of {len(weight_N)} jets are in several of weights.reweight_classes: {last}"
    ]  # fmt: skip


def test_numbers_as_text_are_numbers(paths: list[Path], tmp_path: Path) -> None:
    """YAML 1.1 reads 1e4 as a text."""
    texts = {
        "reweight_vars": {"jet_x": ["0e0", 1, "1e4", 10**400], "jet_y": [-(10**30), 0, "1e2"]},
        "class_weights": ["1e0", "1e-3"],
        "reweight_threshold": "15e0",
        "reweight_basewgt": None,
        "reweight_hists": None,
    }
    numbers = {
        "reweight_vars": {"jet_x": [0.0, 1, 1e4, math.inf], "jet_y": [-math.inf, 0, 100]},
        "class_weights": [1, 1e-3],
    }
    path = write_yaml(tmp_path / "data.yaml", options(weights={**WEIGHTS, **texts}, labels=LABELS, observers=None))
    found = DataSchema.load(path).resolve(paths)
    assert found == schema(
        weights={**WEIGHTS, **numbers, "reweight_threshold": 15}, labels=LABELS, observers=None
    ).resolve(paths)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"reweight_vars": {"x": [3, 1, 0], "y": [0, 1]}}, r"weights\.reweight_vars\.x: edge 1 comes after 3; write"),
        ({"reweight_vars": {"x": [0, 1, 1], "y": [0, 1]}}, r"weights\.reweight_vars\.x: edge 1 comes after 1; write"),
        ({"reweight_vars": {"x": [0, 1], "y": [0]}}, r"weights\.reweight_vars\.y has 1 edges; a bin needs two"),
        (
            {"reweight_vars": {"x": [0, float("nan")], "y": [0, 1]}},
            r"reweight_vars\.x has an edge that is not a number",
        ),
        ({"reweight_vars": {"x": [0, "one"], "y": [0, 1]}}, r"weights\.reweight_vars\.x\.1: .* number"),
        ({"reweight_vars": {"x": [0, 1]}}, r"exactly two variables .*, it has x; a variable with one wide bin"),
        ({"reweight_vars": {"x": 5, "y": [0, 1]}}, r"weights\.reweight_vars\.x: "),
        ({"reweight_method": "even"}, r"weights\.reweight_method: Input should be 'flat' or 'ref'"),
        ({"reweight_method": None}, r"weights\.reweight_method is missing; give 'flat' or 'ref'"),
        ({"reweight_classes": []}, r"weights\.reweight_classes is missing"),
        ({"reweight_classes": ["is_a", "is_a"]}, r"weights\.reweight_classes names a class twice"),
        ({"class_weights": [1]}, r"class_weights needs one number per reweight class \(2: is_a, is_b\), it has 1"),
        ({"class_weights": [1, -1]}, r"weights\.class_weights\.1: .* greater than or equal to 0"),
        ({"class_weights": [0, 0]}, r"weights\.class_weights are all 0"),
        ({"class_weights": [1, float("inf")]}, r"weights\.class_weights\.1: .* finite"),
        ({"reweight_threshold": 101}, r"weights\.reweight_threshold: .* less than or equal to 100"),
        ({"reweight_treshold": 10}, r"unknown key 'weights\.reweight_treshold'"),
        ({"reweight_hists": {"is_a": [[1]]}}, r"weights\.reweight_hists has is_a, and .* has is_a, is_b; remove"),
        (
            {"reweight_hists": {"is_a": [[1, 1]] * 3, "is_b": [[1, 1]] * 2}},
            r"weights\.reweight_hists\.is_b has not the 3 x 2 bins .* \(but \(2, 2\)\); remove",
        ),
        ({"reweight_hists": {"is_a": [[-1]], "is_b": [[1]]}}, r"weights\.reweight_hists\.is_a\.0\.0: "),
        ({"reweight_basewgt": "jet_w +"}, r"the expression of 'reweight_basewgt' is not Python"),
    ],
)
def test_a_wrong_section_is_told_in_one_line(weights: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write_yaml(tmp_path / "data.yaml", options(weights={**WEIGHTS, **weights}))
    with pytest.raises(DataError, match=message) as caught:
        DataSchema.load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"reweight_vars": {"jet_x": [50, 60], "jet_y": [0, 1]}}, "no training jet of class is_a lies in the bins of"),
        ({"reweight_vars": {"jet_z": [0, 1], "jet_y": [0, 1]}}, r"has no branch jet_z \(did you mean 'jet_"),
        (
            {"reweight_classes": ["is_a", "is_c"]},
            "no branch is_c, which the weights of data config need; name branches or new_variables",
        ),
        ({"reweight_vars": {"part_px": [0, 1], "jet_y": [0, 1]}}, r"part_px is not one number per jet"),
        ({"reweight_basewgt": "jet_w - 1"}, r"0\.root row \d+: sampling weight jet_w - 1 is negative \(-0\.\d, and|-"),
        ({"reweight_basewgt": "np.log(jet_y - 0.5)"}, r"0\.root row \d+: sampling weight np\.log.* is NaN"),
        ({"reweight_basewgt": "1 / (jet_w - jet_w)"}, r"0\.root row 0: sampling weight .* is infinite"),
        ({"reweight_basewgt": "0 * jet_w"}, r"weights\.reweight_basewgt is 0 for all training jets of class is_a"),
        (
            {"reweight_basewgt": "jet_w * (jet_y > 0.85)", "reweight_threshold": 30},
            "weaver finds no weights for class is_a: most training jets have weight 0",
        ),
        (
            {"reweight_method": "ref", "reweight_classes": ["low", "high"]},
            "a class has no jet in the bins where low has some",
        ),
    ],
)
def test_weights_that_fit_no_file(weights: dict[str, Any], message: str, paths: list[Path]) -> None:
    variables = {**options()["new_variables"], "low": "jet_x < 1", "high": "jet_x > 2.6"}
    own = schema(labels=LABELS, observers=None, weights={**WEIGHTS, **weights}, new_variables=variables)
    with pytest.raises(DataError, match=message) as caught:
        own.resolve(paths)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("value", "kind"), [(np.nan, "NaN"), (np.inf, "infinite"), (-0.5, r"negative \(-0\.5\)")])
@pytest.mark.parametrize("branches", [["jet_w"], ["jet_w", "jet_y"]])
def test_precomputed_weights_that_are_no_weights(value: float, kind: str, branches: list[str], tmp_path: Path) -> None:
    content = columns(0)
    content["jet_w"][3:8], content["jet_y"][7] = [0, 0, 0, 0, value], 1  # a jet of weight 0 is never drawn
    path = write_root(tmp_path / "jets.root", content)
    weights = {"use_precomputed_weights": True, "weight_branches": branches}
    named = r"\*".join(branches)
    with pytest.raises(DataError, match=rf"jets\.root row 7: sampling weight {named} is {kind}"):
        training_loader(schema(observers=None, weights=weights), [path], batch_size=9, num_workers=0, seed=1)
