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
from phaze_ee.data.expressions import MOST_CHARACTERS, MOST_PARTS, check_expression
from phaze_ee.data.table import EXPRESSION_ERRORS
from phaze_ee.errors import DataError

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
ALLOWED = [
    "np.hypot(px, py)",
    "np.log(px)",
    "np.log(px/jet_pt)",
    "np.tanh(px)",
    "ak.ones_like(energy)",
    "awkward.ones_like(energy)",
    "ak.zeros_like(energy)",
    "np.logical_not(is_qcd)",
    "~is_qcd",
    "1 - is_qcd",
    "(jet_pt>200) & (jet_pt<2500) & (mass>=20) & (mass<260) & (((is_qcd==0) & (label<=45)) | (is_qcd==1))",
    "(event_no%7!=0) & ((label >= 309) & (label < 314) | (label <= 45))",
    "ak.where(label>=309, label-281, label)",
    "(label == 0)",
    "(label==12) | (label==45) | (label==309)",
    "(jet_pt > 500) & (np.abs(jet_eta) < 2.5)",
    "np.logical_and(is_qcd, label==309)",
    "np.logical_or(label == 12, label == 45)",
    "1/mass",
    "np.log(mass/jet_pt)",
    "jet_pt/mass",
    "np.abs(charge)==1",
    "(charge!=0)*px",
    "(charge>0)*1.0",
    "np.sqrt(px**2 + py**2)",
    "(px**2 + py**2 + pz**2)**0.5",
    "np.arctan2(py, px)",
    "np.arcsinh(pz/np.hypot(px, py))",
    "np.cos(jet_eta)",
    "np.sign(jet_eta)*px",
    "px*np.where(jet_eta>0, 1, -1)",
    "np.maximum(px, 1e-8)",
    "np.minimum(px, jet_pt)",
    "np.clip(jet_pt, 0, 600)",
    "np.clip(jet_pt, None, 600)",
    "_clip(px, 0, 2)",
    "np.nan_to_num(jet_eta)",
    "np.nan_to_num(jet_eta, nan=0, posinf=0, neginf=0)",
    "np.exp(-px)",
    "np.log1p(px)",
    "np.square(px)",
    "np.power(px, 0.5)",
    "np.expm1(jet_eta)",
    "np.isfinite(jet_eta)",
    "np.isnan(jet_eta) == 0",
    "np.pi - jet_eta",
    "math.pi * px",
    "math.sqrt(2) * px",
    "jet_eta % (2*np.pi)",
    "ak.sum(px, axis=1)",
    "ak.sum(px[charge==0], axis=1)/ak.sum(px, axis=1)",
    "ak.num(px)",
    "ak.num(px) > 0",
    "ak.count_nonzero(charge, axis=1)",
    "ak.max(px, axis=1)",
    "ak.fill_none(ak.max(px, axis=-1), 0)",
    "ak.fill_none(ak.firsts(px), 0)",
    "ak.firsts(px[ak.argmax(px, axis=1, keepdims=True)])",
    "ak.any(charge == 0, axis=1)",
    "ak.all(px > 0, axis=-1)",
    "ak.mean(px, axis=1, weight=energy)",
    "ak.pad_none(px, 2, clip=True)",
    "ak.fill_none(ak.pad_none(px, 2, axis=1, clip=True), 0)[:, 1]",
    "ak.flatten(px[:, :1])",
    "px[:, 0]",
    "px[ak.argsort(px, ascending=False)]",
    "ak.sort(px, axis=1, ascending=False)",
    "ak.local_index(px)",
    "ak.local_index(px) < 2",
    "ak.values_astype(charge, 'float32')",
    "ak.values_astype(charge, np.float32)",
    "ak.to_numpy(is_qcd).astype('float32')",
    "ak.unflatten(ak.flatten(px), ak.num(px))",
    "ak.concatenate([px, py], axis=1)",
    "_concat([px, py], axis=1)",
    "ak.singletons(jet_pt)",
    "ak.nan_to_num(px, nan=0.0)",
    "ak.is_none(jet_pt)",
    "ak.full_like(px, 2)",
    "ak.softmax(px, axis=1)",
    "ak.ones_like(px) * jet_pt",
    "_p4_from_pxpypze(px, py, pz, energy).pt",
    "_p4_from_pxpypze(px, py, pz, energy).eta - jet_eta",
    "_p4_from_ptetaphie(px, py, pz, energy).mass",
    "_p4_from_ptetaphim(px, py, pz, energy)['phi']",
    "_p4_from_pxpypze(px, py, pz, energy).deltaR(_p4_from_pxpypze(px, py, pz, energy))",
    "ak.sum(_p4_from_pxpypze(px, py, pz, energy), axis=1).mass",
    "(quality >> 1) & 1",
    "(quality & 0x4) > 0",
    "quality ^ 1 | 2",
    "px if len(px) > 2 else py",
    "0 < len(px) <= 10",
    "not len(px)",
    "np.isin(label, [12, 45])",
    "np.select([label==12, label==45], [1.0, 2.0])",
    "np.stack([ak.to_numpy(jet_pt), ak.to_numpy(mass)], axis=1)",
    "np.digitize(jet_pt, [300, 600, 1000])",
    "np.searchsorted([300, 600], jet_pt, side='right')",
    "jet_pt[:, np.newaxis] * px",
    "jet_pt[:, None] + 0*px",
    "px[..., :1]",
    "ak.ones_like(px, dtype=np.float32)",
    "ak.ones_like(px, dtype='float32')",
    "numpy.log10(jet_pt)",
    "10**18 * 5 // 7",
    "(1 << 31) & event_no",
    "2.5e3",
    "-jet_eta",
    "+jet_eta",
    "True",
    "\u03c0 + 1 if False else 1",
]
REFUSED = {
    "__import__('os').system('true')": ".system",
    "__import__('os')": "the function __import__",
    "__builtins__": "the name __builtins__",
    "_x": "the name _x",
    "eval('1')": "the function eval",
    "exec('1')": "the function exec",
    "open('/etc/passwd')": "the function open",
    "getattr(np, 'load')": "the function getattr",
    "abs(jet_eta)": "the function abs, .* write np.abs",
    "max(px, py)": "the function max, .* write np.maximum or ak.max",
    "int(px)": "the function int",
    "range(10**9)": "the function range",
    "print(px)": "the function print",
    "vars()": "the function vars",
    "px()": "the function px",
    "(px)(py)": "the function px",
    "np.load('x.npy')": "np.load",
    "np.fromfile('x')": "np.fromfile",
    "np.fromstring('1')": "np.fromstring",
    "np.genfromtxt('x')": "np.genfromtxt",
    "np.memmap('x')": "np.memmap",
    "np.save('x', px)": "np.save",
    "np.savetxt('x', px)": "np.savetxt",
    "np.frompyfunc(px, 1, 1)": "np.frompyfunc",
    "np.vectorize(px)": "np.vectorize",
    "np.apply_along_axis(px, 0, py)": "np.apply_along_axis",
    "np.ctypeslib.load_library('c', '.')": "np.ctypeslib.load_library",
    "np.lib.npyio": "np.lib.npyio",
    "np.random.rand(3)": "np.random.rand",
    "np.f2py": "np.f2py",
    "np.testing.rundocs()": "np.testing.rundocs",
    "np.lgo(px)": "np.lgo, .* write np.log",
    "np.zeros(10**9)": "np.zeros",
    "np.arange(10**9)": "np.arange",
    "np.repeat(px, 10**9)": "np.repeat",
    "np.tile(px, 10**9)": "np.tile",
    "np.broadcast_to(px, 10**9)": "np.broadcast_to",
    "np.outer(px, px)": "np.outer",
    "np.log.__class__": r"np\.log\.__class__",
    "np.log": "np.log",
    "np.float32": "np.float32",
    "np.sum.at(px)": "np.sum.at",
    "np": "the name np",
    "len": "the name len",
    "np.array(np)": "the name np",
    "ak.to_numpy(_pad)": "the name _pad",
    "ak.from_parquet('x')": "ak.from_parquet",
    "ak.to_parquet(px, 'x')": "ak.to_parquet",
    "ak.from_json('x')": "ak.from_json",
    "ak.from_buffers(px)": "ak.from_buffers",
    "ak.Array('[1]')": "ak.Array",
    "ak._v2": "ak._v2",
    "ak.numba.register()": "ak.numba.register",
    "ak.behavior": "ak.behavior",
    "ak.cartesian([px, py])": "ak.cartesian",
    "ak.combinations(px, 20)": "ak.combinations",
    "ak.transform(px, py)": "ak.transform",
    "awkward.JaggedArray.ones_like(px)": "awkward.JaggedArray.ones_like, .* write ak.ones_like",
    "awkward.JaggedArray.zeros_like(px)": "awkward.JaggedArray.zeros_like, .* write ak.zeros_like",
    "awkward.JaggedArray.fromcounts(px, py)": "awkward.JaggedArray.fromcounts",
    "math.factorial(10**6)": "math.factorial",
    "math.floor(2.5)": "math.floor, .* write np.floor",
    "math.comb(9**9, 9)": "math.comb",
    "px.layout": "px.layout",
    "px.dtype": "px.dtype",
    "px.__class__.__mro__": r"px\.__class__\.__mro__",
    "px.tolist()": "px.tolist",
    "px.tofile('x')": "px.tofile",
    "px.behavior": "px.behavior",
    "(px+py).numba_type": ".numba_type",
    "().__class__": r"\.__class__",
    "px.astype('O')": "the text 'O'",
    "px.astype(np.object_)": "np.object_",
    "np.array([1], dtype='O')": "a dtype in np.array",
    "np.array([1], dtype=object)": "a dtype in np.array",
    "np.add(px, py, out=px)": "the keyword out in np.add",
    "np.sum(px, **py)": r"the keyword \*\* in np.sum",
    "np.hypot(*px)": r"an argument with \*",
    "lambda: 1": "a lambda",
    "(lambda: 1)()": "a call of something that is not a function",
    "[v for v in px]": "a comprehension",
    "np.sum([v for v in px])": "a comprehension",
    "{v for v in px}": "a comprehension",
    "{v: 1 for v in px}": "a comprehension",
    "ak.zip({'a': px})": "ak.zip",
    "np.array({1: 2})": "a dictionary",
    "np.array({1, 2})": "a set",
    "f'{px}'": "an f-string",
    "np.array(f'{px}')": "an f-string",
    "(a := px)": "an assignment",
    "np.sum((a := px))": "an assignment",
    "'text'": "the text 'text'",
    "'a' * 10**9": "the text 'a'",
    "px == 'text'": "the text 'text'",
    "b'x'": "the value b'x'",
    "None": "the value None",
    "...": "the value Ellipsis",
    "np.array([None, 9])": "the value None",
    "np.array([..., 9])": "the value Ellipsis",
    "np.array([np.newaxis, 9])": "np.newaxis",
    "np.array([np.float32, 9])": "np.float32",
    "px * 1j": "the value 1j",
    "[0] * 10**9": "a list that is not an argument",
    "np.sum([0] * 10**9)": "a list that is not an argument",
    "(0,) * 10**9": "a list that is not an argument",
    "px, py": "a list that is not an argument",
    "_batch_gather([9], 0) ** 9**9": "a list that is not an argument",
    "px @ py": "the operator MatMult",
    "label in [1, 2]": "the operator In, .* write np.isin",
    "label is None": "the operator Is",
    "9**9**9": r"a whole number that may exceed 2\^63",
    "(9**9)**(9**9)": r"a whole number that may exceed 2\^63",
    "2**len(px)": r"a whole number that may exceed 2\^63",
    "1 << 10**9": r"a whole number that may exceed 2\^63",
    "10**18 * 10**18": r"a whole number that may exceed 2\^63",
    "(9 if len(px) else 8)**(9**9)": r"a whole number that may exceed 2\^63",
    "math.isfinite(1) * 9**9 * 9**9 * 9**9": r"a whole number that may exceed 2\^63",
    "-(-9)**99": r"a whole number that may exceed 2\^63",
    "ak.sum(px, axis=9**99)": r"a whole number that may exceed 2\^63",
    "(1 < 2) << 64": r"a whole number that may exceed 2\^63",
    "ak.pad_none(px, 10**9)": "a length in ak.pad_none",
    "ak.pad_none(px, 1000000)": "a length in ak.pad_none",
    "ak.pad_none(px, target=len(px))": "a length in ak.pad_none",
    "_pad(px, 10**9)": "a length in _pad",
    "_repeat_pad(px, maxlen=99999)": "a length in _repeat_pad",
    "_fused_pad_and_stack(px, py, pz)": "the function _fused_pad_and_stack",
    "_get_content_and_offsets(px)": "the function _get_content_and_offsets",
    "_register_funcs(px)": "the function _register_funcs",
    "import os": "is not Python",
    "a = 1": "is not Python",
    "px; py": "is not Python",
    "px +": "is not Python",
    "": "is not Python",
    " px": "is not Python",
    "(yield)": "Python's Yield|is not Python",
    "0" * 5000 + "1": "is not Python",
    "(" * 3000 + "px" + ")" * 3000: "nested too deeply|is not Python",
    "-" * 10_000 + "1": "nested too deeply|levels",
    "+".join(["px"] * 400): "more than 5,000 parts or 300 levels, .* several new_variables",
    "np.stack([" + "px," * 6000 + "])": "characters|more than 5,000 parts",
    "px" * MOST_CHARACTERS: "has 40,000 characters; split it",
}


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
