"""Where a command runs: its device, and its place among the processes that torchrun started.

Only this module reads the environment variables of torchrun, which train_a100.sh sets without torchrun. It imports
torch on use, so that the command line may ask for its rank without waiting for torch.
"""

import ctypes
import os
import platform
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from phaze_ee.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, device
    from torch.distributed.distributed_c10d import Store

Precision = Literal["float32", "tf32", "float16", "bfloat16"]  # of the operands of products; sums are in float32


def processor() -> str:
    """Return the name of the processor where the system tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def device_name(used: "device") -> str:
    """Return the name of the CUDA device, or of the processor."""
    import torch

    return str(torch.cuda.get_device_name(used)) if used.type == "cuda" else processor()


def core_count() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def return_free_memory() -> None:
    """Return to the system what this process has freed; without effect where the C library is not glibc.

    glibc keeps much of it for later, in pools of each thread that fragment: over a thousand files a few hundred MB.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def rank() -> int:
    """Return the index of this process among those that torchrun started, from 0; 0 without torchrun."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Return the number of processes that torchrun started, on all machines; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def processes_per_machine() -> int:
    """Return the number of processes that torchrun started on each machine; 1 without torchrun."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def machine_count() -> int:
    """Return the number of machines on which torchrun started processes; 1 without torchrun."""
    return int(os.environ.get("GROUP_WORLD_SIZE", "1"))


def launched_by_torchrun() -> bool:
    """Return whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def process_count() -> int:
    """Return the number of processes in torch's process group; 1 while there is no group."""
    from torch import distributed

    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def process_index() -> int:
    """Return the index of this process in torch's process group, from 0; 0 while there is no group."""
    from torch import distributed

    return distributed.get_rank() if process_count() > 1 else 0


def summed(value: "Tensor") -> "Tensor":
    """Return the sum of a tensor over all processes, without a gradient; each process must call this."""
    from torch import distributed

    if process_count() == 1:
        return value
    value = value.detach().clone()
    distributed.all_reduce(value)
    return value


def joined(value: "Tensor") -> "Tensor":
    """Return the tensors of all processes, concatenated along the first dimension in the order of the processes.

    The tensors must have equal shapes. Each process must call this.
    """
    import torch
    from torch import distributed

    if process_count() == 1:
        return value
    parts = [torch.empty_like(value) for _ in range(process_count())]
    distributed.all_gather(parts, value.contiguous())
    return torch.cat(parts)


def broadcast(name: str, value: int) -> int:
    """Return the ``value`` of the first process; each process that torchrun started must call this once per name.

    It needs no process group, and so works before a training begins.

    Args:
        name: of the value, a different one for each call.
        value: the value of this process. Only that of the first process counts.
    """
    if world_size() == 1:
        return value
    store, index = _store()
    if index == 0:
        store.set(name, str(value))
    return int(store.get(name))


@cache
def _store() -> "tuple[Store, int]":
    """Return what all processes share before they are a process group, and the index of this process.

    Without torchrun the first process serves it to the others, which may still read: it is kept to the end.
    """
    from torch.distributed.rendezvous import rendezvous

    store, index, _ = next(rendezvous("env://"))
    return store, index


def resolve_device(wanted: Literal["auto", "cuda", "cpu"]) -> "device":
    """Return the device of the option ``device``; ``auto`` means CUDA where PyTorch finds a CUDA device.

    Raises:
        UsageError: CUDA is wanted, but PyTorch finds no CUDA device.
    """
    import torch

    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise UsageError("device = 'cuda', but PyTorch finds no CUDA device here; set device to 'auto' or 'cpu'")
    return torch.device("cuda" if available and wanted != "cpu" else "cpu")
