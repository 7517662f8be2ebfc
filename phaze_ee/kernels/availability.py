"""Whether Triton's kernels run for a tensor, decided in one place."""

import importlib.util
import logging
from functools import cache

import torch
from torch import Tensor

_log = logging.getLogger(__name__)

# The first major compute capability of which all cards have at least 99 kB of shared memory a program. The widest
# EdgeConv block takes 98 kB in float32. Earlier cards have 96 kB or less: V100, T4.
_FIRST = 8


def runs_kernels(tensor: Tensor) -> bool:
    """Return whether the kernels of this package run on the device of a tensor; where not, warn once for each reason.

    They need Triton and a CUDA device of compute capability 8.0 or later. Modules with kernels import Triton, so they
    are imported after this has returned True.
    """
    return has_kernels(tensor.device)


def has_kernels(device: torch.device) -> bool:
    """Return whether the kernels of this package run on a device, as :func:`runs_kernels` does for a tensor."""
    return device.type == "cuda" and triton_available() and is_enough(torch.cuda.get_device_capability(device))


@cache
def triton_available() -> bool:
    """Return whether Triton is installed; where it is not, warn once that CUDA devices are slower."""
    if importlib.util.find_spec("triton") is not None:
        return True
    _log.warning("Triton is not installed: networks run on CUDA without compiled kernels; pip install triton")
    return False


@cache
def is_enough(capability: tuple[int, int]) -> bool:
    """Return whether cards of this compute capability have the shared memory that kernels take; else warn once."""
    if capability[0] >= _FIRST:
        return True
    _log.warning(
        "A card of compute capability %d.%d has too little shared memory for the kernels (they need 8.0 or later: "
        "A100, L4, RTX 30 and newer cards): networks run there in plain torch",
        *capability,
    )
    return False
