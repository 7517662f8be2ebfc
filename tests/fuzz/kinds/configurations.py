"""Configurations: values of other types, extremes, unknown names, damaged files."""

import random
from pathlib import Path
from typing import Any

from phaze_ee.config.options import Options
from tests.fuzz.attempts import Attempt
from tests.fuzz.damage import damaged, mutated, values
from tests.fuzz.scene import CONFIG, OUTPUT, PROJECT

# Large values of these are legitimate work that takes for ever, or many processes.
_SMALL = {"epochs", "steps_per_epoch", "samples_per_epoch", "num_workers", "accumulate_batches"}
_SMALL_VALUES: list[Any] = [None, True, "x", -1, 0, 1, 2, 1.5, [], {}, -(2**63)]
_LINES = (
    "c.unknown = 1", "c.lr.x = 1", "c = None", "return c", "raise ValueError('é\\n\\x00')", "c.epochs",
    "c.beta_max[99] = 1", "raise Exception(c)", "1 / 0", "(((",
    "yield", "import nothing",
    "c.lr = c.lr", "c.train_files.append(3)", "del c.lr", "c.lr: float = 'x'", "print('\\ud800')", "c.__class__ = int",
)  # fmt: skip
_MODES = ("evaluate", "predict", "train", "train", "convert", "calibrate", "evaluate", "predict", "find_lr")


def literal(value: Any) -> str:
    """Return a value as Python source."""
    return repr(value).replace("nan", "float('nan')").replace("inf", "float('inf')") if _numbers(value) else repr(value)


def _numbers(value: Any) -> bool:
    return isinstance(value, float | list | dict)


def attempt(draw: random.Random, scene: Path) -> Attempt:
    """Change a configuration, and run a mode that reads it."""
    path = scene / CONFIG
    text, kind = path.read_text(encoding="utf-8"), draw.randrange(10)
    if kind == 0:
        path.write_bytes(damaged(draw, text.encode()))
    else:
        lines = [draw.choice(_LINES)] if kind == 1 else [_line(draw) for _ in range(draw.choice((1, 1, 2, 3)))]
        path.write_text(text + "".join(f"    {line}\n" for line in lines), "utf-8", "surrogateescape")
    # Without the line that sets it, there are 50 epochs.
    mode = draw.choice(_MODES if kind else ("evaluate", "predict", "convert", "calibrate"))
    more = ["--output", "out/new"] if mode == "predict" else []
    results = {"predict": "out/new/jets.root", "evaluate": f"{OUTPUT}/results/evaluation_results.json"}.get(mode)
    return Attempt(["-m", mode, *PROJECT, *more], [results] if results else [], scratch=["out/new"])


def _line(draw: random.Random) -> str:
    name = draw.choice([*Options.model_fields])
    field = Options.model_fields[name]
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    usual = mutated(draw, {"value": list(default) if isinstance(default, tuple) else default}).get("value", "x")
    value = draw.choice([usual, draw.choice(values())])
    return f"c.{name} = {literal(draw.choice(_SMALL_VALUES) if name in _SMALL else value)}"
