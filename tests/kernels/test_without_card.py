"""All kernels compile for cards, in networks of the published and of the largest sizes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("without_card.py")


# The most shared memory on a card with little; other instructions, and most types.
@pytest.mark.parametrize(("card", "precision"), [("89", "float32"), ("90", "tf32"), ("90", "bfloat16")])
def test_every_kernel_compiles_and_fits(card: str, precision: str) -> None:
    pytest.importorskip("triton", reason="needs Triton")
    of_triton = "ignore:AnnAssign.__init__ missing:DeprecationWarning"  # with Python 3.13 and later
    words = [sys.executable, "-W", "error", "-W", of_triton, str(SCRIPT), card, "--precision", precision]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr[-2000:]
    kernels = {line.split()[-3] for line in done.stdout.splitlines()}
    assert {"nearest", "edge_conv", "layer_before", "attend", "gradients", "pair_layers", "ordered_pairs"} <= kernels
