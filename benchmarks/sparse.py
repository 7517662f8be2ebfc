"""Compares a product with the positive outputs of a ReLU alone and the dense product, by width and positive share.

    python benchmarks/sparse.py [--rounds 40]

One thread, with the sizes of the packed form. The mark shows which of the two the packed form would take
(phaze_ee/models/particle_net/edge_conv.py). Its choice is right if a marked ratio is above 1, or an unmarked one below.
"""

import argparse
import sys
from functools import partial
from itertools import product
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.engine import Rivals, race
from phaze_ee.models.particle_net import edge_conv
from phaze_ee.models.particle_net.folding import Affine

NUMBERS = 32 * 16 * 256  # in a block of edges
WIDTHS, SHARES = (32, 64, 128, 256), (0.1, 0.2, 0.3, 0.4, 0.5, 0.7)
chosen = edge_conv.share_that_pays


def multiply(up_to: float, by: Affine, row_RC: Tensor) -> None:
    """Apply the layer, with positive numbers alone if their share is at most ``up_to``."""

    def share(layer: Affine) -> float:
        return up_to

    edge_conv.share_that_pays = share
    edge_conv.sparse_layers((by,), row_RC)


def make_rivals(width: int, share: float) -> Rivals:
    layer = Affine(torch.randn(width, width), torch.randn(width))
    shape = (NUMBERS // width, width)
    row_RC = torch.rand(shape) * torch.where(torch.rand(shape) < share, 1, -1)
    # The dense product applies the ReLU in place, so it gets the positive numbers only.
    return {"dense": partial(multiply, -1.0, layer, row_RC.relu()), "bags": partial(multiply, 2.0, layer, row_RC)}


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    title = "Times as fast as the dense product, by the share of positive numbers; * where taken"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for column in ("width", *(f"{share:.0%}" for share in SHARES)):
        table.add_column(column, justify="right", no_wrap=True)
    ratios: dict[tuple[int, float], str] = {}
    for width, share in product(WIDTHS, SHARES):
        rates = race(make_rivals(width, share), 1, rounds)
        taken = share < chosen(Affine(torch.empty(0, width), torch.empty(width)))
        ratios[width, share] = f"{rates['bags'] / rates['dense']:.2f}{'*' if taken else ' '}"
    for width in WIDTHS:
        table.add_row(str(width), *(ratios[width, share] for share in SHARES))
    Console(width=80).print(table)


if __name__ == "__main__":
    main()
