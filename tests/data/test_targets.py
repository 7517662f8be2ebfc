"""Targets of a data YAML: how they are written, read from files and caches, and standardised."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import yaml
from weaver.utils.data.config import DataConfig

from phaze_ee.data.cache.build import Job, build_cache
from phaze_ee.data.loaders import evaluation_loader, training_loader
from phaze_ee.data.rows import RowReader
from phaze_ee.data.schema import DataSchema, standardisation
from phaze_ee.data.starting import as_trained, other_standardisation
from phaze_ee.data.table import Span
from phaze_ee.errors import CheckpointError, DataError
from tests.data.small import OPTIONS, jet_columns, options, schema, write_yaml
from tests.jetclass_files import LABELS, write_root

SCALES = {"mass": {"center": 0.0, "spread": 1.0}, "sum": {"center": 0.0, "spread": 1.0}}
TARGETS = {"sum": "jet_mass + jet_index", "mass": "jet_mass"}


def labels(targets: Any = TARGETS, **more: Any) -> dict[str, Any]:
    return {"type": "simple", "value": list(LABELS), "targets": targets, **more}


def mass_of(index_N: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    mass_N: npt.NDArray[np.float32] = (80 + 10 * np.sin(index_N)).astype(np.float32)
    return mass_N


def write_jets(path: Path, count: int = 40, first: int = 0, **changes: Any) -> Path:
    columns = {**jet_columns(count, first), "jet_mass": mass_of(np.arange(first, first + count))}
    return write_root(path, {**columns, **changes})


@pytest.mark.parametrize(
    "form",
    [
        labels(),
        {"type": "hybrid", "value": {"cls": list(LABELS), "reg": TARGETS}},
        {"type": "hybrid", "value_cls": list(LABELS), "value_reg": TARGETS},
        {"type": "hybrid", "value": {"classification": list(LABELS), "regression": TARGETS}},
        {"type": "hybrid", "value": list(LABELS), "value_custom": TARGETS},
    ],
)
def test_all_forms_mean_the_same(form: dict[str, Any]) -> None:
    own = schema(labels=form)
    assert own.class_names == LABELS
    assert own.targets == {"mass": "jet_mass", "sum": "jet_mass + jet_index"}
    assert own == schema(labels=labels())


def test_a_list_names_columns() -> None:
    assert schema(labels=labels(["jet_mass"])).targets == {"jet_mass": "jet_mass"}
    number = {"type": "custom", "value": {"k": "jet_index % 2"}, "names": ["a", "b"], "targets": {"mass": "jet_mass"}}
    own = schema(labels=number)
    assert (own.class_names, own.targets) == (("a", "b"), {"mass": "jet_mass"})


@pytest.mark.parametrize("targets", [None, TARGETS])
def test_a_hybrid_label_may_be_the_number_of_the_class(targets: dict[str, str] | None) -> None:
    hybrid = {"value": None, "value_cls_index": "jet_index % 2", "value_cls_names": ["a", "b"], "value_custom": targets}
    own = schema(labels={"type": "hybrid", **hybrid})
    assert (own.class_names, own.targets) == (("a", "b"), TARGETS if targets else {})
    number = {"type": "custom", "value": {"class_number": "jet_index % 2"}, "names": ["a", "b"], "targets": targets}
    assert own == schema(labels=number)


def test_weaver_takes_the_file_as_that_of_a_classifier(tmp_path: Path) -> None:
    path = write_yaml(tmp_path / "data.yaml", options(labels=labels()))
    config = DataConfig.load(str(path), load_observers=False)
    assert config.label_value == list(LABELS)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (
            {"type": "hybrid", "value": {"a": list(LABELS), "b": TARGETS}},
            r"in this form: .* write type: simple, value:",
        ),
        ({"type": "hybrid", "value": list(LABELS)}, "in this form"),
        ({"type": "regression", "value": {"mass": "jet_mass"}}, "in this form"),
        (labels({"label_QCD": "jet_mass"}), "label_QCD is a class and a target; rename the target"),
        (labels({"mass": 5}), "labels.targets.mass"),
        (labels(yaml.safe_load("{mass: np.hypot(a, b)}")), r"labels.targets.b\) has no value; .* needs quotes"),
        (labels({"mass": "__import__('os')"}), "the expression of 'target mass'"),
        (labels(target_scales={"mass": SCALES["mass"]}), "target_scales must have center and spread of each target"),
        (labels(target_scales={**SCALES, "mass": {"center": 0, "spread": 0}}), "labels.target_scales.mass.spread"),
    ],
)
def test_wrong_forms_are_refused(form: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        schema(labels=form)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("cached", [True, False])
def test_targets_travel_with_their_jets(tmp_path: Path, *, training: bool, cached: bool) -> None:
    files = [write_jets(tmp_path / "a.root", 40), write_jets(tmp_path / "b.root", 30, first=40)]
    own = schema(labels=labels(target_scales=SCALES), selection="jet_index % 3 != 0")
    job = Job(own, own, files, training=training, labelled=True)
    cache = build_cache(tmp_path / "cache", job) if cached else None
    if training:
        batches = list(training_loader(own, files, batch_size=8, num_workers=0, seed=1, cache=cache))
    else:
        batches = list(evaluation_loader(own, files, batch_size=8, num_workers=0, cache=cache))
    values = [batch.target_NR for batch in batches if batch.target_NR is not None]
    target_NR = torch.cat(values).numpy()
    index_N = np.flatnonzero(np.arange(70) % 3)
    expected_NR = np.stack([mass_of(index_N), mass_of(index_N) + index_N], axis=1).astype(np.float32)
    order_N = np.argsort(target_NR[:, 1] - target_NR[:, 0])
    np.testing.assert_allclose(target_NR[order_N if training else slice(None)], expected_NR, rtol=1e-6)
    observers = set() if training else {"jet_index"}
    assert all(set(batch.observers) == observers for batch in batches)
    if not training:
        read_N = np.concatenate([batch.observers["jet_index"] for batch in batches])
        np.testing.assert_array_equal(read_N, index_N)


def test_without_targets_a_batch_has_none(tmp_path: Path) -> None:
    read = RowReader(schema(), training=False).read(Span(write_jets(tmp_path / "a.root"), 0, 40))
    assert read.jets.batch().target_NR is None


@pytest.mark.parametrize(
    ("value", "text", "message"),
    [
        (np.nan, "jet_mass", r"a.root row 7: target mass \(jet_mass\) is nan; leave such jets out by selection"),
        (np.inf, "jet_mass", r"a.root row 7: target mass \(jet_mass\) is inf"),
        (-1.0, "np.log(jet_mass)", r"a.root row 7: target mass \(np.log\(jet_mass\)\) is nan"),
        (0.0, "ak.mask(jet_mass, jet_mass > 0)", r"a.root row 7: target mass \(ak.mask.* has no value"),
        (0.0, "part_px", r"a.root: target mass \(part_px\) is not one number per jet"),
        (0.0, "jet_mas", r"a.root has no branch jet_mas"),
    ],
)
def test_targets_that_are_no_numbers_are_told_with_their_row(
    tmp_path: Path, value: float, text: str, message: str
) -> None:
    mass_N = mass_of(np.arange(40))
    mass_N[7] = value
    path = write_jets(tmp_path / "a.root", jet_mass=mass_N)
    own = schema(labels=labels({"mass": text}, target_scales={"mass": SCALES["mass"]}))
    with pytest.raises(DataError, match=message):
        RowReader(own, training=True).read(Span(path, 0, 40))
    if text == "jet_mass":
        cut = own.with_options({"selection": "jet_index != 7"})
        assert len(RowReader(cut, training=True).read(Span(path, 0, 40))) == 39


def test_scores_need_no_targets(tmp_path: Path) -> None:
    path = write_root(tmp_path / "a.root", jet_columns(20))
    own = schema(labels=labels({"mass": "jet_mass"}, target_scales={"mass": SCALES["mass"]}))
    batch = RowReader.of_file(own, path).read(Span(path, 0, 20)).jets.batch()
    assert batch.target_NR is None
    assert (batch.label_N >= 0).all()


@pytest.mark.parametrize("sign", [1, -1])  # the wider side is below the median, or above it
@pytest.mark.parametrize("fraction", [{"data_fraction": 0.5}, {}])
def test_scales_are_those_of_weavers_automatic_standardisation(
    tmp_path: Path, sign: int, fraction: dict[str, float]
) -> None:
    files = [
        write_jets(tmp_path / name, count, first, jet_mass=sign * np.exp(mass_of(np.arange(first, first + count)) / 9))
        for name, count, first in (("a.root", 200, 0), ("b.root", 150, 200))
    ]
    shared = {"selection": "jet_index % 5 != 0", "preprocess": {"method": "auto", **fraction}}
    numbers = {**OPTIONS["inputs"], "jet_globals": {"length": None, "vars": ["jet_mass"]}}
    inputs = DataSchema.from_options(options(inputs=numbers, **shared))
    expected = standardisation(inputs.weaver, files)["jet_mass"]
    resolved = schema(labels=labels({"mass": "jet_mass"}), **shared).resolve(files)
    own = resolved.options["labels"]["target_scales"]["mass"]
    assert not resolved.needs_target_scales
    assert own["center"] == pytest.approx(expected["center"], rel=1e-5)
    assert 1 / own["spread"] == pytest.approx(expected["scale"], rel=1e-5)


def test_a_constant_target_is_refused(tmp_path: Path) -> None:
    path = write_jets(tmp_path / "a.root", jet_mass=np.full(40, 5.0, dtype=np.float32))
    with pytest.raises(DataError, match="target mass is 5 for most training jets"):
        schema(labels=labels({"mass": "jet_mass"})).resolve([path])


@pytest.mark.parametrize("text", ["jet_mass * 1e-2 + 1e5", "jet_mass * 1e-44"])
def test_a_target_that_single_precision_does_not_resolve_is_refused(tmp_path: Path, text: str) -> None:
    path = write_jets(tmp_path / "a.root")
    with pytest.raises(DataError, match=r"target mass is .* which single precision does not resolve; subtract"):
        schema(labels=labels({"mass": text})).resolve([path])


def test_targets_keep_the_places_that_they_had_in_the_weights() -> None:
    trained = schema(labels=labels({"log_pt": "jet_index", "mass": "jet_mass"})).options
    now = schema(labels=labels({"mass": "jet_mass", "zlog": "jet_index"}))
    with pytest.raises(CheckpointError, match=r"with mass as number 2 of labels\.targets, and it is number 1 .*: call"):
        as_trained(now, trained, "weights.pt")
    other = schema(labels=labels({"log_pt": "jet_index", "mass": "jet_mass * 1000"}))
    as_trained(other, trained, "weights.pt")
    said = "target mass is jet_mass * 1000 in the data_config, and was jet_mass"
    assert other_standardisation(other, trained, "weights.pt") == said
