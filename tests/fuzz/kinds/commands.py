"""Command lines: flags, values and patterns of files, in any order."""

import random
from collections.abc import Sequence
from pathlib import Path

from phaze_ee.modes.mode import Flag
from phaze_ee.modes.registry import MODES, flags_of
from tests.fuzz.attempts import Attempt
from tests.fuzz.damage import EXTREME_FLOATS, EXTREME_INTEGERS, ODD_TEXTS
from tests.fuzz.scene import FORMATS, OUTPUT, PROJECT

_MODES = (
    "predict", "predict", "predict", "evaluate", "calibrate", "calibrate", "convert", "train", "compare", "new_project",
    "chain", "retrofit", "sweep", "generate", "place", "find_lr", "plot", "benchmark",
)  # fmt: skip
_SLOW = ("place", "find_lr", "plot", "benchmark", "generate", "sweep", "retrofit")
_SAFE = {
    "--workers": ("-1", "x", "1.5", "", "0"),
    "--scheduler": ("x", "", "tcp://:1"),
    "--jets": ("-1", "0", "x"),
    "--trials": ("-1", "0", "x", "1e9"),
    "--storage": ("x/y/z", "", "sqlite://"),
    "--output": ("out/new", "jets.root", "out/jets.root/x"),
}
_PATTERNS = (
    "*.root", "jets.*", "**/*.root", "[", "nothing*", ".", "out", "jets.root:Events", "jets.root", "two_classes.yaml",
    "/", "@two_classes.yaml", "/dev/null", "a:jets.root", "jets.h5", "\udcff.root", "~x/*.root", "val.root",
)  # fmt: skip
_WORDS = (
    "budget", "accuracy_drop", "agreement", "signal_efficiency", "entropy", "gate", "window", "is_top", "jet_id",
    "200M", "5ms", "1e400G", "0k", "parquet", "root", "train_evaluate", "predict_predict", "lr=1:2", "lr=a,b", "c=1:x",
    "0.5", "0.01", "1", "2", "two_sided", *FORMATS,
)  # fmt: skip


def attempt(draw: random.Random, scene: Path) -> Attempt:
    """Return a random command line."""
    mode = draw.choice(_MODES)
    words = ["-m", draw.choice((mode,) * 20 + ("Predict", "", "demos", "é"))]
    words += (
        list(PROJECT)
        if draw.randrange(15)
        else draw.choice((["-p", "Tops"], ["-p", "Tops", ".."], ["-p", "a/b", "c"], []))
    )
    flags = list(flags_of(MODES[mode]))
    for _ in range(draw.choice((1, 1, 2, 3)) if mode not in _SLOW else draw.choice((1, 2))):
        words += _flag(draw, flags)
    if mode in _SLOW:  # what they do takes seconds, and is tested elsewhere
        words += draw.choice((["--nothing"], ["--output"], ["--epsilon", "2"], ["x"], ["--workers", "-1"]))
    if mode == "predict" and "--output" not in words:
        words += ["--output", "out/new"]
    if not draw.randrange(10):
        draw.shuffle(words)
    scratch = ["out", f"{OUTPUT}/plots", "ws", "jets.root"] if mode in ("compare", "plot") else ["out/new"]
    return Attempt([word for word in words if word not in ("demo", "generate_")], scratch=scratch)


def _flag(draw: random.Random, flags: Sequence[Flag]) -> list[str]:
    if not flags or not draw.randrange(12):
        return [draw.choice(("--files", "-x", "--epsilo", "--", "-o", "--fresh", "--projects", *ODD_TEXTS[:8]))]
    flag = draw.choice(flags)
    name = draw.choice(flag.names)
    if name in _SAFE:
        return [name, draw.choice(_SAFE[name])]
    if not flag.settings.get("nargs") and flag.settings.get("action") == "store_true":
        return [name]
    count = draw.choice((0, 1, 1, 2, 3)) if flag.settings.get("nargs") else 1
    return [name, *(_value(draw) for _ in range(count))]


def _value(draw: random.Random) -> str:
    pools = (_PATTERNS, _PATTERNS, _WORDS, _WORDS, ODD_TEXTS, EXTREME_INTEGERS, EXTREME_FLOATS)
    return str(draw.choice(draw.choice(pools))).replace("\x00", "")
