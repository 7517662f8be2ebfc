"""Whatever stands in a data configuration or a ROOT file: jets, or an error of one line."""

import copy
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from phaze_ee.data.loaders import evaluation_loader, training_loader
from phaze_ee.data.schema import DataSchema
from phaze_ee.errors import PhazeError
from tests.data.small import OPTIONS, USED_COLUMNS, jet_columns, jet_files
from tests.jetclass_files import LABELS

JETS = 6

EXPRESSIONS = st.sampled_from(
    [
        *(
            "part_px",
            "jet_index",
            "label_QCD",
            "no_such_branch",
            "part_mask",
            "1",
            "",
            " ",
            "part_px +",
            "None",
            "True",
        ),
        *("np.log(part_px)", "part_px / 0", "part_px[0]", "part_px[:, 0]", "part_px[:, :2]", "ak.sum(part_px)"),
        *(
            "ak.sum(part_px, axis=1)",
            "ak.sum(part_px, axis=5)",
            "np.no_such_function(part_px)",
            "part_px.no_such",
            "[1]",
        ),
        *("'text'", "part_px == 'text'", "lambda: 1", "(yield)", "import os", "part_px and part_py", "part_px > 0"),
        *("jet_index > 2", "jet_index < -1", "part_px @ part_py", "ak.pad_none(part_px, 3)", "np.zeros(3)", "1 < 2"),
        *(
            "ak.zip({'a': part_px})",
            "part_px * 1j",
            "ak.to_list(part_px)",
            "part_px, part_py",
            "~part_px",
            "int(part_px)",
        ),
        *(
            "a := 1",
            "ak.singletons(jet_index)",
            "ak.concatenate([part_px, part_py])",
            "part_px\n+ 1",
            "\u03c0",
            "0" * 999,
        ),
    ]
)
PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-2, 300)
    | st.sampled_from([2**63, -(2**70), 0.5, float("nan"), float("inf"), 1e300])
    | EXPRESSIONS
)
JUNK = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(EXPRESSIONS, inner, max_size=3),
    max_leaves=5,
)
SECTIONS: dict[str, Any] = {
    **OPTIONS,
    "selection": "jet_index >= 0",
    "test_time_selection": "jet_index >= 0",
    "preprocess": {"method": "manual", "data_fraction": 0.5},
    "weights": {
        "use_precomputed_weights": False,
        "reweight_method": "flat",
        "reweight_vars": {"jet_index": [-1, 3, 9], "jet_index_2": [-1, 9]},
        "reweight_classes": list(LABELS[:2]),
        "class_weights": [1, 1],
    },
    "file_magic": {"other": {"jets": 1}},
    "branch_magic": {"abc": "def"},
    "monitor_variables": None,
}
SECTIONS["new_variables"]["jet_index_2"] = "jet_index"


PARAMETERS = {
    variable if isinstance(variable, str) else variable[0]: {
        "length": group["length"],
        "pad_mode": "constant",
        "center": 1.0,
        "scale": 1,
        "min": -5,
        "max": 5,
        "pad_value": 0,
    }
    for group in OPTIONS["inputs"].values()
    for variable in group["vars"]
}


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the keys and indices that lead to everything in a nested value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, inner in items for place in ((*at, key), *places(inner, (*at, key)))]


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the small configuration with something in one to three places changed, removed or added."""
    options = copy.deepcopy(SECTIONS)
    for name in draw(st.sets(st.sampled_from(["weights", "selection", "observers", "preprocess"]))):
        del options[name]
    if draw(st.booleans()) and "preprocess" in options:
        options["preprocess"]["params"] = copy.deepcopy(PARAMETERS)
    for _ in range(draw(st.integers(0, 3))):
        *above, last = draw(st.sampled_from(places(options)))
        inner: Any = options
        for key in above:
            inner = inner[key]
        what = draw(st.sampled_from(["change", "change", "remove", "add"]))
        if what == "remove":
            del inner[last]
        elif what == "change" or isinstance(inner, list):
            inner[last] = draw(EXPRESSIONS if isinstance(inner[last], str) and draw(st.booleans()) else JUNK)
        else:
            inner[draw(st.sampled_from(["length", "pad_mode", "vars", "value", "method", "another", 7]))] = draw(JUNK)
    return options


def walk(path: Path, files: list[Path]) -> None:
    """Read all jets for training and for evaluation; nothing but our own errors, which are one line, may come."""
    with suppress(PhazeError):
        schema = DataSchema.load(path).resolve(files)
        list(training_loader(schema, files, batch_size=4, num_workers=0, seed=1))
    with suppress(PhazeError):
        schema = DataSchema.load(path).resolve(files)
        list(evaluation_loader(schema, files, batch_size=4))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return jet_files(tmp_path_factory.mktemp("jets"), [JETS])


@settings(max_examples=60, derandomize=True)
@given(options=configurations())
def test_data_configurations(files: list[Path], options: dict[str, Any]) -> None:
    path = files[0].with_name("any.yaml")
    path.write_text(yaml.safe_dump(options, sort_keys=False), encoding="utf-8")
    walk(path, files)


@settings(max_examples=60, derandomize=True)
@given(text=st.text(alphabet="ab:[]{}-#&*!|>'\"%@ \n\t0.\x00\ud800é", max_size=40))
def test_text_that_may_be_yaml(files: list[Path], text: str) -> None:
    path = files[0].with_name("any.yaml")
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    walk(path, files)


def nan_in(column: Any) -> Any:
    if not isinstance(column, ak.Array):
        return column
    largest = ak.to_numpy(ak.flatten(column)).max(initial=-np.inf)  # there may be no particles
    return ak.where(column == largest, np.float32("nan"), column)


def longer(column: Any) -> Any:
    return ak.concatenate([column] * 60, axis=1) if isinstance(column, ak.Array) else column


CHANGES: dict[str, Callable[[Any], Any]] = {
    "removed": lambda column: None,
    "NaN": nan_in,
    "empty": lambda column: column[:, :0] if isinstance(column, ak.Array) else column,
    "longer": longer,
    "shorter": lambda column: column[:, :2] if isinstance(column, ak.Array) else column,
    "one a jet": lambda column: np.arange(len(column), dtype=np.float64),
    "a list a jet": lambda column: ak.Array([[1.0, 2.0]] * len(column)),
    "whole numbers": lambda column: ak.values_astype(column, np.int16),
    "true or false": lambda column: ak.values_astype(column, bool),
    "a matrix": lambda column: np.ones((len(column), 3), dtype=np.float32),
    "a deeper matrix": lambda column: np.ones((len(column), 3, 2), dtype=np.float32),
    "a constant": lambda column: ak.zeros_like(column) if isinstance(column, ak.Array) else column * 0 + 7,
}


def write(path: Path, columns: dict[str, Any]) -> None:
    """Write columns of any kind as one tree, lists of different lengths too."""
    types = {
        name: column.type.content if isinstance(column, ak.Array) else (column.dtype, column.shape[1:])
        for name, column in columns.items()
    }
    with uproot.recreate(path) as file:
        plain = {name: kind if isinstance(kind, tuple) else str(kind) for name, kind in types.items()}
        file.mktree("tree", plain, counter_name=lambda name: f"n_{name}")
        if any(map(len, columns.values())):
            file["tree"].extend(columns)


@settings(max_examples=25, derandomize=True)
@given(
    jets=st.sampled_from([0, 1, JETS]),
    every=st.sampled_from([None, None, "empty", "longer", "shorter"]),
    changes=st.dictionaries(st.sampled_from(sorted(USED_COLUMNS)), st.sampled_from(sorted(CHANGES)), max_size=2),
)
def test_root_files(jets: int, every: str | None, changes: dict[str, str]) -> None:
    columns = jet_columns(JETS)
    if every is not None:
        columns = {name: CHANGES[every](column) for name, column in columns.items()}
    columns |= {name: CHANGES[change](columns[name]) for name, change in changes.items()}
    columns = {name: column[:jets] for name, column in columns.items() if column is not None}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.root"
        write(path, columns)
        (Path(folder) / "any.yaml").write_text(yaml.safe_dump(OPTIONS, sort_keys=False), encoding="utf-8")
        walk(Path(folder) / "any.yaml", [path])
