"""Deals the jets of a batch out to chunks that go through a tagger together.

The chunks, and so the answers, do not depend on the number of threads.
"""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from phaze_ee.models.tagger import Tagger
from phaze_ee.shapes import Int

# A batch makes at least _CHUNKS chunks, so that a small batch keeps all threads busy. Without padding it makes fewer,
# but at least two, where a chunk would have fewer than _JETS jets: threads help each other inside a chunk, and fewer
# chunks need fewer calls. With 248 jets on two threads, two chunks were 1 to 9 % faster than four in 12 runs.
_CHUNKS = 4
_JETS = 128
# A chunk of padded jets costs at most _CHUNK_MACS multiply-accumulates, unless one unit alone costs more. It wastes at
# most _CALLS_MACS of them on padding, which is what the calls of one walk cost: a lower limit would make many small
# chunks. Measured with the Particle Transformer (benchmarks/part.py) on a core with 1.5e10 multiply-accumulates per
# second, where the calls alone took 0.01 s. The limits of a GPU, which does more at once, are _GPU_FACTOR times these.
_CHUNK_MACS = 2_000_000_000
_CALLS_MACS = 150_000_000
_GPU_FACTOR = 100


def deal(
    tagger: Tagger, count_N: Int[Tensor, " N"], unit_N: Int[Tensor, " N"], chunk_size: int
) -> list[Int[Tensor, " _"]]:
    """Return the indices of the jets of each chunk; every jet is in one chunk.

    Args:
        tagger: the tagger that the chunks go through.
        count_N: the number of particles of each jet, of all collections.
        unit_N: the unit of each jet, counted from 0; the jets of a unit stay together.
        chunk_size: the most jets in a chunk, unless one unit has more.
    """
    if len(count_N) <= 1:
        return [torch.arange(len(count_N), device=count_N.device)]
    if tagger.backbone.pads_to_longest:
        return _buckets(tagger, count_N, unit_N, chunk_size)
    if count_N.is_cuda:
        return [torch.arange(len(count_N), device=count_N.device)]  # a GPU works on all jets at once
    return _round_robin(count_N, unit_N, chunk_size)


def _round_robin(count_N: Int[Tensor, " N"], unit_N: Int[Tensor, " N"], chunk_size: int) -> list[Tensor]:
    """Sort units by their number of particles and deal them out in turn, so that all chunks cost about the same."""
    units = int(unit_N.max()) + 1
    particles_U = torch.zeros(units, dtype=count_N.dtype).index_add(0, unit_N, count_N)
    several = min(_CHUNKS, max(2, len(count_N) // _JETS))
    chunks = min(units, max(several, -(-len(count_N) // chunk_size)))
    chunk_U = torch.empty_like(particles_U)
    chunk_U[particles_U.argsort(descending=True, stable=True)] = torch.arange(units) % chunks
    return _jets_of_chunks(chunk_U[unit_N])


def _buckets(tagger: Tagger, count_N: Int[Tensor, " N"], unit_N: Int[Tensor, " N"], chunk_size: int) -> list[Tensor]:
    """Sort units by their longest jet; start a new chunk where one is full or its padding costs more than its calls."""
    longest_U = torch.zeros_like(unit_N[: int(unit_N.max()) + 1]).scatter_reduce(0, unit_N, count_N, "amax")
    order_U = longest_U.argsort(descending=True, stable=True)
    jets_U = unit_N.bincount()[order_U]
    # The costs of the full model alone: a jet is then among the same jets, and its answer the same, for any exits.
    macs_U = tagger.walk_macs(longest_U[order_U], exits=())[-1]
    factor = _GPU_FACTOR if count_N.is_cuda else 1
    calls = factor * _CALLS_MACS
    most = min(factor * _CHUNK_MACS, max(calls, int((jets_U * macs_U).sum()) // _CHUNKS))
    chunk_U = torch.empty_like(order_U)
    starts = list(_starts(jets_U.tolist(), macs_U.tolist(), chunk_size, most, calls))
    for chunk, (start, stop) in enumerate(pairwise([*starts, len(order_U)])):
        chunk_U[order_U[start:stop]] = chunk
    return _jets_of_chunks(chunk_U[unit_N])


def _starts(jets_U: list[int], macs_U: list[int], chunk_size: int, most: int, waste: int) -> Iterator[int]:
    """Yield the first unit of each chunk. Each jet costs as much as the longest, in the first unit."""
    inside, used, padded_macs = 0, 0, 0
    for unit, (jets, macs) in enumerate(zip(jets_U, macs_U, strict=True)):
        inside, used = inside + jets, used + jets * macs
        full = inside > chunk_size or inside * padded_macs > most or inside * padded_macs - used > waste
        if unit == 0 or full:
            inside, used, padded_macs = jets, jets * macs, macs
            yield unit


def _jets_of_chunks(chunk_N: Int[Tensor, " N"]) -> list[Tensor]:
    return list(torch.split(chunk_N.argsort(stable=True), chunk_N.bincount().tolist()))
