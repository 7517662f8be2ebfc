"""All kernels compile for a card, in networks of the published sizes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("without_card.py")


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])  # most shared memory, and most types
def test_every_kernel_compiles_and_fits(precision: str) -> None:
    pytest.importorskip("triton", reason="needs Triton")
    of_triton = "ignore:AnnAssign.__init__ missing:DeprecationWarning"  # with Python 3.13 and later
    words = [sys.executable, "-W", "error", "-W", of_triton, str(SCRIPT), "90", "--precision", precision]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr[-2000:]
    kernels = {line.split()[-3] for line in done.stdout.splitlines()}
    assert {"nearest", "edge_conv", "layer_before", "attend", "gradients", "pair_layers", "ordered_pairs"} <= kernels
