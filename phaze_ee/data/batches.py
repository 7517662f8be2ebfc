"""Joining, cutting and shuffling batches of jets."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phaze_ee.types import JetBatch, JetInputs

# Jets that are shuffled together. 20,000 jets of 128 particles and 19 features take 270 MB, twice that while joined.
POOL_JETS = 20_000
_INPUT_NAMES = tuple(item.name for item in fields(JetInputs))


def take(batch: JetBatch, index_N: Tensor | slice) -> JetBatch:
    """Return the jets that an index or slice names."""
    # as numpy: an index tensor with one element would pick a scalar instead of a column of one
    rows = index_N if isinstance(index_N, slice) else index_N.numpy()
    observers = {name: column[rows] for name, column in batch.observers.items()}
    return JetBatch(batch.inputs.map(lambda tensor: tensor[index_N]), batch.label_N[index_N], observers)


def concatenate(batches: Sequence[JetBatch]) -> JetBatch:
    """Return all jets of some batches as one."""
    if len(batches) == 1:
        return batches[0]
    columns: dict[str, Any] = {name: [getattr(batch.inputs, name) for batch in batches] for name in _INPUT_NAMES}
    joined: dict[str, Any] = {name: None if parts[0] is None else torch.cat(parts) for name, parts in columns.items()}
    names = batches[0].observers
    observers = {name: np.concatenate([batch.observers[name] for batch in batches]) for name in names}
    return JetBatch(JetInputs(**joined), torch.cat([batch.label_N for batch in batches]), observers)


def rebatch(chunks: Iterable[JetBatch], batch_size: int) -> Iterator[JetBatch]:
    """Yield the jets of ``chunks`` in their order, ``batch_size`` at a time; the last batch may be smaller."""
    rest: list[JetBatch] = []
    for chunk in chunks:
        rest.append(chunk)
        if sum(map(len, rest)) < batch_size:
            continue
        joined = concatenate(rest)
        whole = len(joined) - len(joined) % batch_size
        for start in range(0, whole, batch_size):
            yield take(joined, slice(start, start + batch_size))
        rest = [take(joined, slice(whole, None))] if whole < len(joined) else []
    if rest:
        yield concatenate(rest)


def batch_sizes(jet_count: int, batch_size: int) -> list[int]:
    """Return the sizes of the batches of an epoch.

    BatchNorm needs two jets, so a single jet that is left over joins the batch before it.
    """
    whole, left = divmod(jet_count, batch_size)
    sizes = [batch_size] * whole
    if left == 1 and sizes:
        sizes[-1] += 1
    elif left:
        sizes.append(left)
    return sizes


def shuffled_batches(chunks: Iterable[JetBatch], sizes: Iterable[int], rng: np.random.Generator) -> Iterator[JetBatch]:
    """Yield batches of the given sizes, drawn at random from pools of ``POOL_JETS`` jets that come one after the other.

    The sizes must add up to the number of jets.
    """
    pool: list[JetBatch] = []
    remaining = iter(sizes)
    size = next(remaining, 0)
    for chunk in chunks:
        pool.append(chunk)
        if sum(map(len, pool)) < max(POOL_JETS, size):
            continue
        joined, order, start = concatenate(pool), rng.permutation(sum(map(len, pool))), 0
        while size and start + size <= len(order):
            yield take(joined, torch.from_numpy(order[start : start + size]))
            start, size = start + size, next(remaining, 0)
        pool = [take(joined, torch.from_numpy(order[start:]))]
    yield from _drain(pool, [size, *remaining], rng)


def _drain(pool: Sequence[JetBatch], sizes: Iterable[int], rng: np.random.Generator) -> Iterator[JetBatch]:
    if not pool:
        return
    joined, start = concatenate(pool), 0
    order = torch.from_numpy(rng.permutation(len(joined)))
    for size in filter(None, sizes):
        yield take(joined, order[start : start + size])
        start += size
    assert start == len(joined)
