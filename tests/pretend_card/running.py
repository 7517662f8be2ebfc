"""Running a program with the card that is not there.

python -m tests.pretend_card.running -m pytest -n 0 tests/training/test_cuda.py    # a quarter of an hour
python -m tests.pretend_card.running -m phaze_ee -m evaluate -p WORKSPACE PROJECT  # with device = "auto"
"""

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from phaze_ee.errors import UsageError
from phaze_ee.models.particle_net.native.build import find_compiler

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]


def missing() -> str | None:
    """Return why this machine cannot have the card that is not there; None if it can."""
    if importlib.util.find_spec("triton") is None:
        return "needs Triton"
    if torch.version.cuda is not None:
        return "needs the CPU build of torch: one with CUDA has hooks of its own, which ask the driver for a card"
    try:
        find_compiler()
    except UsageError:
        return "needs a C++ compiler"
    return None


def compiled_hooks(folder: Path) -> Path:
    """Compile what torch asks of a card."""
    library, include = folder / "hooks.so", Path(torch.__file__).parent / "include"
    words = [*find_compiler(), "-std=c++20", "-O1", "-fPIC", "-shared", f"-I{include}", str(HERE / "hooks.cpp")]
    subprocess.run([*words, "-o", str(library)], check=True)
    return library


def environment(hooks: Path) -> dict[str, str]:
    """Return the environment in which each process of Python has the card."""
    card = {"PRETEND_CARD": str(hooks), "PYTHONPATH": str(HERE / "everywhere"), "OMP_NUM_THREADS": "1"}
    return {**os.environ, **card}


def run_with_card(hooks: Path, *words: str) -> str:
    """Run Python with the card in each of its processes; return what it prints, the tail of which is an error's text.

    Raises:
        AssertionError: it does not succeed.
    """
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment(hooks), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def passed(hooks: Path, *words: str) -> int:
    """Run tests with the card; return how many passed.

    Raises:
        AssertionError: one failed.
    """
    printed = run_with_card(hooks, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *words)
    counted = re.search(r"(\d+) passed", printed.splitlines()[-1])
    return int(counted[1]) if counted else 0


def main() -> int:
    if reason := missing():
        print(f"the card that is not there {reason}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        hooks = compiled_hooks(Path(folder))
        return subprocess.run([sys.executable, *sys.argv[1:]], env=environment(hooks), check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
