"""JSON files: policies and results, manifests of caches; and the shards and predictions that they describe."""

import json
import random
from pathlib import Path

from tests.fuzz.attempts import Attempt
from tests.fuzz.damage import damaged, mutated
from tests.fuzz.scene import OUTPUT, PROJECT, edit

_RESULTS = f"{OUTPUT}/results"
_READERS = {
    "exit_policy.json": ("predict", "evaluate"),
    "training_history.json": ("evaluate", "train"),
    "evaluation_results.json": ("evaluate",),
    "dynamic_results.json": ("evaluate",),
    "benchmark_results.json": ("evaluate",),
}


def attempt(draw: random.Random, scene: Path) -> Attempt:
    """Change a policy or a results file, and run a mode that reads it."""
    name = "exit_policy.json" if draw.randrange(3) else draw.choice(sorted(_READERS))
    _change(draw, scene / _RESULTS / name)
    mode = draw.choice(_READERS[name])
    if not draw.randrange(25):
        mode = draw.choice(("plot", "compare"))
    more = ["--output", "out/new", *(["--monitor"] if draw.randrange(2) else [])] if mode == "predict" else []
    project = ["-p", "Tops", "all"] if mode == "compare" else PROJECT
    results = ["out/new/jets.root"] if mode == "predict" else []
    return Attempt(
        ["-m", mode, *project, *more], results, scratch=["out/new", f"{OUTPUT}/plots", "ws/Tops/comparisons"], what=name
    )


def cache(draw: random.Random, scene: Path) -> Attempt:
    """Damage a cache, and read it."""
    edits = {'"never"': '"always"'}
    edit(scene, edits)
    mode, folder = draw.choice((("evaluate", "evaluation_*"), ("evaluate", "evaluation_*"), ("train", "training_*")))
    found = sorted((scene / "ws/Tops/small/data/cache").glob(f"{folder}/*"))
    path = draw.choice([path for path in found if path.suffix in (".json", ".arrow")])
    content = path.read_bytes()
    if path.suffix == ".json" and draw.randrange(2):
        path.write_text(json.dumps(mutated(draw, json.loads(content)), indent=1), encoding="utf-8")
    else:
        path.write_bytes(damaged(draw, content))
    results = {"evaluate": f"{_RESULTS}/evaluation_results.json", "train": f"{OUTPUT}/models/best_model.pt"}
    return Attempt(["-m", mode, *PROJECT], [results[mode]], same=True, edits=edits, what=path.name)


def prediction(draw: random.Random, scene: Path) -> Attempt:
    """Damage predictions, and predict again, which keeps what is complete."""
    path = scene / "out" / "jets.root"
    path.write_bytes(damaged(draw, path.read_bytes(), (scene / "jets.root").read_bytes()))
    return Attempt(["-m", "predict", *PROJECT, "--output", "out"], ["out/jets.root"], same=True)


def _change(draw: random.Random, path: Path) -> None:
    content = path.read_bytes()
    if draw.randrange(3):
        path.write_text(json.dumps(mutated(draw, json.loads(content))), encoding="utf-8")
    else:
        path.write_bytes(damaged(draw, content))
