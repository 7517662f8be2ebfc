"""Data configurations of weaver: changed structures, changed text, deep and huge ones."""

import random
from pathlib import Path

import yaml

from tests.fuzz.attempts import Attempt
from tests.fuzz.damage import damaged, mutated
from tests.fuzz.scene import PROJECT, YAML

_MORE = {
    "weights": {
        "use_precomputed_weights": False,
        "reweight_method": "flat",
        "reweight_vars": {"jet_mass": [0, 100, 300], "jet_id": [0, 30, 100]},
        "reweight_classes": ["is_qcd", "is_top"],
        "class_weights": [1, 2],
        "reweight_threshold": 10,
    },
    "preprocess": {"method": "auto", "data_fraction": 0.5},
    "test_time_selection": "jet_id > 3",
    "monitor_variables": ["jet_mass"],
    "treename": None,
}
_TEXTS = (
    "[" * 3000, "{a: " * 3000, "a: &a [*a]", "!!python/name:os.system x", "a: !x y", "\t", "- 1", "null", "3", "'", "%",
    "a: &a [1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c]",
    "? [a]\n: 1", "1: 2", "a: 2020-01-01", "a: 0x7fffffffffffffffffff", "<<: {a: 1}", "a: 1\na: 2", "--- 1\n--- 2",
    "é: \x85",
)  # fmt: skip


def attempt(draw: random.Random, scene: Path) -> Attempt:
    """Change the data configuration, and convert or train with it."""
    path, kind = scene / YAML, draw.randrange(12)
    text = path.read_text(encoding="utf-8")
    if kind == 0:
        path.write_bytes(damaged(draw, text.encode()))
    elif kind == 1:
        path.write_text(draw.choice([draw.choice(_TEXTS), f"{text}more: {draw.choice(_TEXTS)}\n"]), encoding="utf-8")
    else:
        content = yaml.safe_load(text)
        for key in draw.sample(sorted(_MORE), draw.choice((0, 1, 1, 2))):
            content[key] = _MORE[key]
        path.write_text(yaml.safe_dump(mutated(draw, content), allow_unicode=True), encoding="utf-8")
    mode = draw.choice(("convert", "convert", "train", "evaluate"))
    return Attempt(["-m", mode, *PROJECT])
