"""A fixed part of the jets of a loader."""

import numpy as np
import pytest
import torch

from phaze_ee.data.batches import HeldOut
from phaze_ee.types import JetBatch
from tests.jets import random_jets


def batches(sizes: list[int]) -> list[JetBatch]:
    start, made = 0, []
    for size in sizes:
        ids = np.arange(start, start + size)
        made.append(JetBatch(random_jets([3] * size, length=4), torch.from_numpy(ids), {"jet_id": ids}))
        start += size
    return made


def ids(part: HeldOut) -> list[int]:
    return [number for batch in part for number in batch.label_N.tolist()]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_the_parts_share_out_all_jets_in_their_order(share: float) -> None:
    loader = batches([7, 1, 40, 52])
    held_out, rest = HeldOut(loader, share, held_out=True), HeldOut(loader, share, held_out=False)
    assert sorted(ids(held_out) + ids(rest)) == list(range(100))
    assert ids(held_out) == sorted(ids(held_out))
    assert abs(len(ids(held_out)) - 100 * share) <= 2
    assert ids(rest) == ids(rest)  # as often as one likes
    assert all((batch.label_N.numpy() == batch.observers["jet_id"]).all() for batch in rest)


def test_the_batches_have_no_part_in_it() -> None:
    assert ids(HeldOut(batches([100]), 0.5, held_out=True)) == ids(HeldOut(batches([33, 33, 34]), 0.5, held_out=True))


def test_older_versions_held_out_the_same_jets() -> None:
    assert ids(HeldOut(batches([20]), 0.5, held_out=True)) == [0, 2, 4, 5, 7, 10, 12, 13, 15, 18]
