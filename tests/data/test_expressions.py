"""Which expressions of a data configuration are evaluated, and which are refused, by which name."""

import ast
import copy
import itertools
import sys
import time
import warnings
from typing import Any

import awkward as ak
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weaver.utils.data.eval_utils import _eval_expr, _eval_funcs

from phaze_ee.data.allowed_names import CONSTANTS, FUNCTIONS, HELPERS, MODULES
from phaze_ee.data.expressions import MOST_PARTS, check_expression
from phaze_ee.data.table import EXPRESSION_ERRORS
from phaze_ee.errors import DataError
from tests.data.expression_examples import ALLOWED, REFUSED

WHERE = "data.yaml: the expression of 'x'"
TABLE = ak.Array(
    {
        "jet_pt": [500.0, 700.0, 900.0],
        "jet_eta": [-1.0, 0.5, 2.0],
        "jet_energy": [600.0, 800.0, 3500.0],
        "event_no": [3, 10, 21],
        "label": [309, 12, 45],
        "is_qcd": [True, False, False],
        "mass": [80.0, -1.0, 125.0],
        "px": [[1.0, 2.0], [3.0], [0.5, 4.0, 2.0]],
        "py": [[2.0, 1.0], [1.0], [1.0, 3.0, 0.0]],
        "pz": [[0.0, 1.0], [-1.0], [2.0, 3.0, 0.5]],
        "energy": [[4.0, 5.0], [6.0], [3.0, 9.0, 7.0]],
        "charge": [[0, 1], [-1], [1, 0, -1]],
        "quality": [[5, 1], [7], [3, 0, 2]],
    }
)


# The first are those of the bundled and of public data configurations for weaver, with shorter names of columns.
@pytest.mark.parametrize("text", ALLOWED)
def test_expressions_of_known_configurations_pass(text: str) -> None:
    check_expression(text, WHERE)
    if "\u03c0" not in text:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # logarithms of what is no energy here
            _eval_expr(text, TABLE)  # the names mean something to weaver too


@pytest.mark.parametrize("text", REFUSED)
def test_all_else_is_refused_by_name(text: str) -> None:
    with pytest.raises(DataError, match=REFUSED[text]) as caught:
        check_expression(text, WHERE)
    assert str(caught.value).startswith(WHERE)
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


def test_the_lists_are_long_enough() -> None:
    assert len(ALLOWED) >= 80
    assert len(REFUSED) >= 80


NAMES = sorted({*_eval_funcs, "px", "jet_pt", "open", "__import__", "os", "a"})
ATTRIBUTES = sorted({*FUNCTIONS["np"], *FUNCTIONS["ak"], "load", "__class__", "pt", "layout", "pi", "sum", "astype"})
TEXTS = st.recursive(
    st.sampled_from([*NAMES, "1", "9", "2.5", "True", "None", "'a'", "...", "10**9"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "*", "**", "<<", "&", "<", " in ", " and ", "@", ","]), inner).map(
            lambda parts: f"({parts[0]}{parts[1]}{parts[2]})"
        ),
        st.tuples(inner, st.sampled_from(ATTRIBUTES)).map(lambda parts: f"{parts[0]}.{parts[1]}"),
        st.tuples(inner, st.lists(inner, max_size=3)).map(lambda parts: f"{parts[0]}({', '.join(parts[1])})"),
        st.tuples(inner, inner).map(lambda parts: f"{parts[0]}[{parts[1]}]"),
        st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(parts)}]"),
        inner.map(lambda text: f"lambda: {text}"),
        inner.map(lambda text: f"-{text}"),
    ),
    max_leaves=12,
)


def verdict(text: str) -> bool:
    """Return whether an expression passes; whatever happens, it must be quick and a DataError of one line."""
    start = time.process_time()
    problem = ""
    try:
        check_expression(text, WHERE)
    except DataError as error:
        problem = str(error)
    assert time.process_time() - start < 1
    assert "\n" not in problem
    return not problem


@settings(max_examples=300, derandomize=True)
@given(text=st.text(max_size=200) | st.text(alphabet="pxnak.()[]*+-9,:'\"=<>~ \\{}\n", max_size=80))
def test_any_text_passes_or_is_refused(text: str) -> None:
    verdict(text)


@settings(max_examples=500, derandomize=True)
@given(text=TEXTS)
def test_what_passes_has_listed_names_alone(text: str) -> None:
    if not verdict(text):
        return
    tree = ast.parse(text, mode="eval")
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    called = {call.func.id for call in calls if isinstance(call.func, ast.Name)}
    assert called <= HELPERS
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Lambda | ast.NamedExpr | ast.Starred | ast.GeneratorExp)
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_")
            if isinstance(node.value, ast.Name) and node.value.id in MODULES:
                module = MODULES[node.value.id]
                assert node.attr in FUNCTIONS[module] | CONSTANTS[module] | {"newaxis"}


class Audit:
    """Records what Python's audit sees while it is open: code that runs, imports, files, commands."""

    opened: "Audit | None" = None

    def __enter__(self) -> set[str]:
        self.events: set[str] = set()
        Audit.opened = self
        return self.events

    def __exit__(self, *_: object) -> None:
        Audit.opened = None

    @staticmethod
    def hook(event: str, _: object) -> None:
        if Audit.opened is not None:
            Audit.opened.events.add(event)


@pytest.fixture(scope="module")
def audit() -> type[Audit]:
    sys.addaudithook(Audit.hook)  # for ever: a hook cannot be removed
    return Audit


@settings(max_examples=200, derandomize=True)
@given(text=TEXTS)
def test_nothing_is_evaluated(audit: type[Audit], text: str) -> None:
    with audit() as events:
        verdict(text)
    # not "open": Python's parser looks for a file "<unknown>" in order to show the line of a syntax error
    assert not events & {"exec", "import", "os.system", "subprocess.Popen"}


def test_an_evaluation_would_be_seen(audit: type[Audit]) -> None:
    with audit() as events:
        eval("1")
    assert "exec" in events


def test_no_function_makes_python_integers_or_objects() -> None:
    """On which the bound of integers rests: functions of numbers give numpy's numbers, which cannot grow."""
    values = [9, 0, True, 2.0, [9, 9], [[9, 9], [9, 9]], np.array(9), ak.Array([9, 9])]
    listed = [(name, functions) for name, functions in FUNCTIONS.items()]
    named = [(f"{module}.{name}", getattr(_eval_funcs[module], name)) for module, names in listed for name in names]
    named += [(name, _eval_funcs[name]) for name in HELPERS - {"len", "_batch_gather"}]
    for (name, function), count in itertools.product(named, (1, 2)):
        for arguments in itertools.product(values, repeat=count):
            if name == "np.diff" and type(arguments[-1]) is int and arguments[-1] == 0:
                continue  # n = 0 returns the argument, and is refused
            results = result_of(function, copy.deepcopy(arguments))
            for result in results if isinstance(results, list | tuple) else [results]:
                assert type(result) is not int, f"{name}{arguments}"
                assert not (isinstance(result, np.ndarray) and result.dtype == object), f"{name}{arguments}"


def result_of(function: Any, arguments: tuple[Any, ...]) -> Any:
    """Return the result of a function; None where it does not take such arguments."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return function(*arguments)
        except EXPRESSION_ERRORS:  # and no others, or the user would get a traceback
            return None


def test_the_largest_expressions_are_checked_quickly() -> None:
    half = MOST_PARTS // 2 - 10
    wide = "np.stack([" + ",".join(["px"] * half) + "])"
    assert verdict(wide)
    assert verdict("+".join(["px"] * 290))
