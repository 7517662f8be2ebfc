"""Expressions of new variables, within the allowed grammar and beyond it, compared with weaver's own evaluation."""

import random
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import torch
from weaver.utils.data.eval_utils import _eval_expr

from phaze_ee.data.allowed_names import ATTRIBUTES, CONSTANTS, FUNCTIONS, HELPERS, KEYWORDS, METHODS, TYPES
from phaze_ee.data.expressions import check_expression
from phaze_ee.data.table import EXPRESSION_ERRORS
from phaze_ee.errors import DataError
from tests.fuzz.attempts import Attempt
from tests.fuzz.children import value_of
from tests.fuzz.damage import damaged
from tests.fuzz.judge import CANARY
from tests.fuzz.scene import OUTPUT, PROJECT, jets

RESULT = "out/new/jets.root"
_COLUMNS = ("p_eta", "p_phi", "p_pt", "is_qcd", "is_top", "jet_id", "jet_mass")
_PER_PARTICLE: Sequence[str] = _COLUMNS[:3]
_PER_JET: Sequence[str] = _COLUMNS[3:]
_UNARY = (
    "abs",
    "sqrt",
    "exp",
    "log",
    "log1p",
    "tanh",
    "sign",
    "floor",
    "square",
    "isfinite",
    "nan_to_num",
    "rint",
    "sin",
)
_REDUCED = ("sum", "max", "min", "mean", "any", "all", "count", "prod", "std", "argmax", "count_nonzero", "ptp")
_BINARY = ("+", "-", "*", "/", "//", "%", "**", "&", "|", "^", "<<", ">>", "<", "<=", ">", ">=", "==", "!=")
_NUMBERS = ("0", "1", "2", "-1", "0.5", "1e-3", "1e300", "2**31", "9**9", "True", "7", "1j", "10**30")
_ATTACKS = (
    "open('{0}', 'w')", "__import__('pathlib').Path('{0}').touch()", "eval(\"open('{0}', 'w')\")",
    "np.save('{0}', jet_id)", "jet_id.tofile('{0}')", "np.load('{0}', allow_pickle=True)",
    "ak.to_parquet(jet_id, '{0}')",
    "[open('{0}', 'w') for _ in jet_id]", "(lambda: open('{0}', 'w'))()", "f'{{open(\"{0}\", \"w\")}}'",
    "jet_id.__class__.__mro__[-1].__subclasses__()", "np.__builtins__['open']('{0}', 'w')", "math.__loader__",
    "np.f2py.os.system('touch {0}')", "(x := open('{0}', 'w'))", "ak.behavior['x']", "np.frompyfunc(open, 1, 1)('{0}')",
    "9**9**9**9", "np.full_like(jet_id, 10**1000)", "'x' * 10**10", "[0] * 10**10", "ak.pad_none(p_pt, 10**9)",
    "np.ones(10**12)", "_pad(p_pt, 10**10)", "jet_id if jet_id else open('{0}', 'w')",
    "*jet_id", "jet_id; open('{0}', 'w')",
)  # fmt: skip


def attempt(draw: random.Random, scene: Path) -> Attempt:
    """Give a checkpoint a new variable, and predict with it as an observer."""
    text = _text(draw)
    path = scene / OUTPUT / "models" / "best_model.pt"
    content = torch.load(path, weights_only=True)
    content["data_options"]["new_variables"]["fuzzed"] = text
    torch.save(content, path)
    (scene / OUTPUT / "results" / "exit_policy.json").unlink()
    arguments = ["-m", "predict", *PROJECT, "--output", "out/new", "--observers", "fuzzed"]
    return Attempt(arguments, [RESULT], reference=value_of(_reference, text), scratch=["out/new"], what=repr(text))


def _text(draw: random.Random) -> str:
    kind = draw.randrange(10)
    if kind == 0:
        return draw.choice(_ATTACKS).format(CANARY)
    depth = draw.choice((1, 2, 3, 4))
    grown = _sensible(draw, depth, per_jet=True) if draw.randrange(3) else _grown(draw, depth)
    if kind == 1:
        return damaged(draw, grown.encode()).decode("utf-8", errors="replace")
    if kind == 2:
        place = draw.randint(0, len(grown))
        return grown[:place] + draw.choice(_ATTACKS).format(CANARY) + grown[place:]
    return grown


def _sensible(draw: random.Random, depth: int, *, per_jet: bool) -> str:
    """Return an expression that gives one number per jet, or per particle, if all goes well."""
    own, other = (_PER_JET, _PER_PARTICLE) if per_jet else (_PER_PARTICLE, _PER_JET)
    if depth == 0:
        return draw.choice((*own, *own, draw.choice(_NUMBERS[:5])))
    one, two = (_sensible(draw, depth - 1, per_jet=per_jet) for _ in range(2))
    shapes: list[str] = [
        f"({one} {draw.choice(_BINARY)} {two})",
        f"({one} {draw.choice(('+', '*', '/', '-', '%', '>'))} {draw.choice(_NUMBERS[:5])})",
        f"np.{draw.choice(_UNARY)}({one})",
        f"np.{draw.choice(('hypot', 'arctan2', 'maximum', 'fmin', 'copysign', 'power', 'logaddexp'))}({one}, {two})",
        f"ak.where({one} > 0, {two}, {one})",
        f"np.clip({one}, -1, {draw.choice(('2', 'None'))})",
    ]
    if per_jet:
        inner = _sensible(draw, depth - 1, per_jet=False)
        shapes += [f"ak.{draw.choice(_REDUCED)}({inner}, axis=1)", f"ak.num({draw.choice(other)})", f"({inner})[:, 0]"]
    else:
        shapes += [
            f"({one} - {draw.choice(other)})",
            f"({one})[{two} > 0]",
            f"ak.ones_like({one})",
            f"_clip({one}, 0, 3)",
        ]
    return draw.choice(shapes)


def _grown(draw: random.Random, depth: int) -> str:
    """Return a random expression of some depth."""
    if depth == 0:
        return draw.choice([draw.choice(_COLUMNS), draw.choice(_COLUMNS), draw.choice(_NUMBERS), _constant(draw)])

    def part() -> str:
        return _grown(draw, depth - 1 - draw.randrange(depth))

    module = draw.choice(("np", "np", "np", "ak", "ak", "math"))
    function = draw.choice(sorted(FUNCTIONS[module]))
    return draw.choice(
        (
            lambda: f"({part()} {draw.choice(_BINARY)} {part()})",
            lambda: f"({part()} {draw.choice(_BINARY)} {part()})",
            lambda: f"{draw.choice(('-', '~', 'not ', '+'))}({part()})",
            lambda: f"{module}.{function}({_arguments(draw, part())})",
            lambda: f"{module}.{function}({_arguments(draw, part())})",
            lambda: f"ak.{draw.choice(('sum', 'max', 'mean', 'num', 'any', 'count'))}({part()}, axis=1)",
            lambda: f"{draw.choice(sorted(HELPERS))}({_arguments(draw, part())})",
            lambda: f"({part()})[{part()}]",
            lambda: f"({part()})[:, {draw.choice((':1', '0', '::2', '-1'))}]",
            lambda: f"({part()}).{draw.choice(sorted(METHODS))}({draw.choice(('', 'axis=1', part()))})",
            lambda: f"({part()}).{draw.choice(sorted(ATTRIBUTES))}",
            lambda: f"({part()} if {part()} else {part()})",
            lambda: f"{module}.{function}([{part()}, {part()}])",
        )
    )()


def _arguments(draw: random.Random, first: str) -> str:
    more = ["", f", {_grown(draw, 0)}", f", {_grown(draw, 0)}, {_grown(draw, 0)}", ", axis=1", ", axis=-1", ", None"]
    keyword = f", {draw.choice(sorted(KEYWORDS))}={draw.choice(('1', '0', 'None', 'p_pt', 'jet_id', '10**9'))}"
    return first + draw.choice([*more, keyword, f", dtype='{draw.choice(sorted(TYPES))}'"])


def _constant(draw: random.Random) -> str:
    module = draw.choice(("np", "math"))
    return f"{module}.{draw.choice(sorted(CONSTANTS[module]))}"


def _reference(text: str) -> Any:
    """Return the answers that weaver's own evaluation gives; an exception where it or our gate refuses."""
    try:
        check_expression(text, "fuzzed")
        table = ak.Array(jets(1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table["fuzzed"] = _eval_expr(text, table)
        column = ak.to_numpy(table["fuzzed"], allow_missing=False)
    except (*EXPRESSION_ERRORS, DataError) as error:  # what the package itself expects: anything else ends the campaign
        return ValueError(f"{type(error).__name__}: {str(error)[:200]}")
    if column.shape != (len(table),) or column.dtype.kind not in "biuf":
        return ValueError(f"{column.dtype} {column.shape} is not one number per jet")
    return {RESULT: {"fuzzed": column.tolist()}}
