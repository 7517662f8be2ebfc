"""Checkpoints and saved states of trainings: damaged archives, and whole ones with other contents."""

import io
import pickle
import random
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from tests.fuzz.attempts import Attempt
from tests.fuzz.damage import damaged, mutated, values
from tests.fuzz.judge import CANARY
from tests.fuzz.scene import OUTPUT, PROJECT, STOPPED

_MODELS = "ws/Tops/stopped/output/models"


class Touch:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(CANARY),)


def attempt(draw: random.Random, scene: Path) -> Attempt:
    """Change the best model, and predict or evaluate with it."""
    path = scene / OUTPUT / "models" / "best_model.pt"
    removed = [f"{OUTPUT}/results/exit_policy.json"] if draw.randrange(4) else []
    for name in removed:
        (scene / name).unlink()  # it names the hash of the model, and would refuse any change
    same = _change(draw, path)
    mode = "predict" if draw.randrange(4) else draw.choice(("evaluate", "evaluate", "calibrate", "benchmark"))
    if mode != "predict":
        return Attempt(["-m", mode, *PROJECT])
    arguments = ["-m", mode, *PROJECT, "--output", "out/new"]
    return Attempt(arguments, ["out/new/jets.root"], same=same, removed=removed, scratch=["out/new"])


def state(draw: random.Random, scene: Path) -> Attempt:
    """Change the saved state of an interrupted training, and resume it."""
    names = ("resume.ckpt", "resume.ckpt", "resume.ckpt", "resume_previous.ckpt", "best_model.pt", "latest_model.pt")
    path = scene / _MODELS / draw.choice(names)
    same = _change(draw, path)
    return Attempt(
        ["-m", "train", *STOPPED], [f"{_MODELS}/best_model.pt", f"{_MODELS}/latest_model.pt"], same=same, what=path.name
    )


def _change(draw: random.Random, path: Path) -> bool:
    """Change a file of torch; return whether a checksum could know."""
    content, kind = path.read_bytes(), draw.randrange(6)
    if kind < 3:
        path.write_bytes(damaged(draw, content))
    elif kind == 3:
        path.write_bytes(_archive(draw, content))
        return False
    else:
        new = [*values(), *_objects()]
        torch.save(mutated(draw, torch.load(path, weights_only=False), new), path)
        return False
    return True


def _objects() -> list[Any]:
    return [
        Touch(), torch.zeros(2), torch.zeros(0), torch.zeros(2, dtype=torch.cfloat), torch.zeros(2, device="meta"),
        torch.full((8, 8), float("nan")), torch.zeros(3).to_sparse(), torch.zeros(()), torch.zeros(1).expand(2**40),
        b"x", {"a": torch.zeros(1)}, {1, 2}, torch.float16, torch.Size([1]), 3j, slice(1), Path("x"), range(3),
    ]  # fmt: skip


def _archive(draw: random.Random, content: bytes) -> bytes:
    """Return an archive with right checksums in which entries are lost, repeated, renamed or damaged."""
    buffer = io.BytesIO()
    with (
        warnings.catch_warnings(action="ignore", category=UserWarning),  # a name that is there twice
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(buffer, "w") as new,
    ):
        entries = old.infolist()
        chosen = draw.choice(entries)
        change = draw.choice(("lost", "repeated", "renamed", "damaged", "damaged", "pickle", "packed"))
        for entry in entries:
            name, data = entry.filename, old.read(entry)
            if entry is chosen and change == "lost":
                continue
            if entry is chosen and change == "renamed":
                name = draw.choice(["../../x", "x/data.pkl", name + "x", "/" + name, ""])
            if entry is chosen and change == "damaged":
                data = damaged(draw, data) if data else b"x"
            if name.endswith("data.pkl") and change == "pickle":
                data = draw.choice(
                    [pickle.dumps(Touch()), damaged(draw, data), data[:2] + pickle.dumps(Touch())[2:] + data]
                )
            new.writestr(name or "x", data, zipfile.ZIP_DEFLATED if change == "packed" else zipfile.ZIP_STORED)
            if entry is chosen and change == "repeated":
                new.writestr(name, damaged(draw, data))
    return buffer.getvalue()
