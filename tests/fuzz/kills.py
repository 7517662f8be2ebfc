"""Kills commands at random times and runs them again: the results must be those of a run that nothing disturbed.

    python tests/fuzz/kills.py [--kills 8] [--seed 1]

Printed is, for each mode, how many runs were killed, and what was wrong afterwards.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
import uproot

from tests.fuzz import children
from tests.fuzz.answers import Answers, agree, answers, sha256
from tests.fuzz.judge import is_temporary, snapshot
from tests.fuzz.scene import OUTPUT, PROJECT, build, restore

_MODELS, _RESULTS, _CACHE = f"{OUTPUT}/models", f"{OUTPUT}/results", "ws/Tops/small/data/cache"
_FILES = ("jets", "val", "more")


@dataclass(frozen=True)
class Killed:
    """A command, what it writes, and what must not be there before it."""

    arguments: Sequence[str]
    results: Sequence[str]
    removed: Sequence[str] = ()


COMMANDS: Mapping[str, Killed] = {
    "train": Killed(
        ["-m", "train", *PROJECT],
        [f"{_MODELS}/best_model.pt", f"{_MODELS}/latest_model.pt", f"{_RESULTS}/training_history.json"],
        [f"{_MODELS}/best_model.pt", f"{_MODELS}/latest_model.pt", f"{_RESULTS}/training_history.json"],
    ),
    "convert": Killed(["-m", "convert", *PROJECT], [_CACHE], [_CACHE]),
    "calibrate": Killed(["-m", "calibrate", *PROJECT], [f"{_RESULTS}/exit_policy.json"]),
    "predict": Killed(
        ["-m", "predict", *PROJECT, "--files", *(f"{name}.root" for name in _FILES), "--output", "new"],
        [f"new/{name}.root" for name in _FILES],
    ),
    "export": Killed(["-m", "export", *PROJECT, "--output", "new"], ["new/model.onnx", "new/preprocess.json"]),
}


def prepared(command: Killed, folder: Path) -> Path:
    """Return the scene before a command."""
    scene = restore(folder)
    for name in command.removed:
        for path in sorted([scene / name, *(scene / name).rglob("*")], reverse=True):
            if path.is_dir():
                path.rmdir()
            elif path.exists():
                path.unlink()
    return scene


def found(command: Killed, scene: Path) -> Answers:
    """Return the results of a command; of folders, the hashes of the files."""
    files = answers(scene, [name for name in command.results if not (scene / name).is_dir()])
    folders = {name: snapshot(scene / name) for name in command.results if (scene / name).is_dir()}
    return {**files, **folders}


def torn(scene: Path) -> list[str]:
    """Return the files that cannot be read, without temporary ones."""
    return [str(path.relative_to(scene)) for path in sorted(scene.rglob("*")) if not _is_whole(path)]


def _is_whole(path: Path) -> bool:
    if not path.is_file() or is_temporary(path.name):
        return True
    try:
        if path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.suffix in (".pt", ".ckpt"):
            torch.load(path, weights_only=True)
        elif path.suffix == ".root":
            with uproot.open(path) as file:
                file["Events"].arrays()
        elif path.name == "SHA256SUMS":
            return all(sha256(path.with_name(name)) == digest for digest, name in _sums(path))
    except (OSError, ValueError, RuntimeError, LookupError, EOFError):
        return False
    return True


def _sums(path: Path) -> Iterator[list[str]]:
    yield from (line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines())


def undisturbed(command: Killed, folder: Path) -> tuple[Answers, float]:
    """Return the results of a run that nothing disturbs, and its seconds."""
    scene = prepared(command, folder)
    done = children.run(command.arguments, folder)
    assert done.status == 0, done.err
    return found(command, scene), done.seconds


def kill(command: Killed, folder: Path, seconds: float, wanted: Answers) -> tuple[bool, list[str]]:
    """Kill a command after some seconds and run it again; return whether it was killed, and what is wrong."""
    scene = prepared(command, folder)
    first = children.run(command.arguments, folder, kill_after=seconds)
    wrong = [f"torn: {name}" for name in torn(scene)]
    again = children.run(command.arguments, folder)
    if again.status:
        wrong.append(f"the next run fails: {again.err.strip()[-200:]}")
    else:
        results = found(command, scene)
        wrong += [
            f"other results: {name}" for name, own in wanted.items() if not agree(results[name], own, _tolerance(name))
        ]
    wrong += [f"left behind: {name}" for name in snapshot(scene) if is_temporary(Path(name).name)]
    return first.status < 0, wrong


def _tolerance(name: str) -> float:
    # Lightning adds up the losses of an epoch in single precision, in another order after a stop.
    return 1e-6 if name.endswith("training_history.json") else 0.0


def kill_all(folder: Path, kills: int, seed: int) -> bool:
    """Kill each command some times, at random, and print a table; return whether all went well."""
    draw, failed = random.Random(seed), False
    print(f"{'mode':<12}{'s':>6}{'runs':>6}{'killed':>8}  wrong")
    for mode, command in COMMANDS.items():
        wanted, seconds = undisturbed(command, folder)
        ends = [kill(command, folder, draw.uniform(0, seconds), wanted) for _ in range(kills)]
        wrong = [problem for _, problems in ends for problem in problems]
        failed |= bool(wrong)
        killed = sum(dead for dead, _ in ends)
        print(f"{mode:<12}{seconds:>6.2f}{len(ends):>6}{killed:>8}  {'; '.join(wrong) or 'nothing'}")
    return not failed


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill all commands; return 1 if something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="phaze_ee_kills_") as folder:
        build(Path(folder))
        return int(not kill_all(Path(folder), given.kills, given.seed))


if __name__ == "__main__":
    sys.exit(main())
