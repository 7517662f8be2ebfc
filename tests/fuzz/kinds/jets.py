"""Files of jets that are damaged, in every format."""

import random
from pathlib import Path

from tests.fuzz.attempts import Attempt
from tests.fuzz.damage import damaged
from tests.fuzz.scene import FORMATS, OUTPUT, PROJECT

_CHECKED = ("jets.root", "jets.lzma.root", "jets.lz4.root")  # these compressions keep a checksum


def root(draw: random.Random, scene: Path) -> Attempt:
    """Damage a ROOT file."""
    return _damaged(draw, scene, draw.choice([name for name in FORMATS if name.endswith(".root")]))


def parquet(draw: random.Random, scene: Path) -> Attempt:
    """Damage a parquet file."""
    return _damaged(draw, scene, "jets.parquet")


def hdf5(draw: random.Random, scene: Path) -> Attempt:
    """Damage an HDF5 file."""
    return _damaged(draw, scene, "jets.h5")


def _damaged(draw: random.Random, scene: Path, name: str) -> Attempt:
    path, other = scene / name, scene / draw.choice(FORMATS)
    path.write_bytes(damaged(draw, path.read_bytes(), other.read_bytes()))
    same = name in _CHECKED
    if draw.randrange(3):
        arguments = ["-m", "predict", *PROJECT, "--output", "out/new", "--files", name]
        return Attempt(arguments, [f"out/new/{path.stem}.root"], same=same, scratch=["out/new"], what=name)
    arguments = ["-m", "evaluate", *PROJECT, "--ood", name]
    return Attempt(arguments, [f"{OUTPUT}/results/ood_results.json"], same=same, what=name)
