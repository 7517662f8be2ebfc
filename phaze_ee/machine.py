"""Sums and gathers over the processes of a training; alone, a process is all of them."""

import os
from typing import Literal

import torch
from torch import Tensor, distributed
from torch.distributed.rendezvous import rendezvous

from phaze_ee.errors import UsageError


def process_count() -> int:
    """Return how many processes train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def process_index() -> int:
    """Return which of them this is, counted from 0."""
    return distributed.get_rank() if process_count() > 1 else 0


def summed(value: Tensor) -> Tensor:
    """Return the sum over all processes, without a gradient."""
    if process_count() == 1:
        return value
    value = value.detach().clone()
    distributed.all_reduce(value)
    return value


def joined(value: Tensor) -> Tensor:
    """Return the tensors of all processes, of equal shapes, along the first dimension in the order of the processes."""
    if process_count() == 1:
        return value
    parts = [torch.empty_like(value) for _ in range(process_count())]
    distributed.all_gather(parts, value.contiguous())
    return torch.cat(parts)


def broadcast(name: str, value: int) -> int:
    """Return what the first of the processes that torchrun started gives as ``value``; each must call this once.

    It needs no process group, and so can be asked before a training begins.

    Args:
        name: of the value, a different one for each question.
        value: this process's; only the first one's counts.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return value
    store, rank, _ = next(rendezvous("env://"))
    if rank == 0:
        store.set(name, str(value))
    return int(store.get(name))


def resolve_device(wanted: Literal["auto", "cuda", "cpu"]) -> torch.device:
    """Return the device of the option ``device``; ``auto`` takes CUDA where there is one.

    Raises:
        UsageError: CUDA is wanted and this machine has none.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise UsageError("device = 'cuda', but PyTorch finds no CUDA device here; set device to 'auto' or 'cpu'")
    return torch.device("cuda" if available and wanted != "cpu" else "cpu")
