"""Whether Triton's kernels run for a tensor, decided in one place."""

import importlib.util
import logging
from functools import cache

import torch
from torch import Tensor

_log = logging.getLogger(__name__)

# Compute capabilities with at least 160 kB of shared memory a program: A100, H100 and H200, B200, B300. The widest
# EdgeConv block takes 136 kB in float32. Other cards have 100 kB or less.
_LARGE = ((8, 0), (9, 0), (10, 0), (10, 3))


def runs_kernels(tensor: Tensor) -> bool:
    """Return whether the kernels of this package run on the device of a tensor; where not, warn once for each reason.

    They need a CUDA device of a data centre, from A100 on, and Triton. Modules with kernels import Triton, so they are
    imported after this has returned True.
    """
    return has_kernels(tensor.device)


def has_kernels(device: torch.device) -> bool:
    """Return whether the kernels of this package run on a device, as :func:`runs_kernels` does for a tensor."""
    return device.type == "cuda" and triton_available() and is_large(torch.cuda.get_device_capability(device))


@cache
def triton_available() -> bool:
    """Return whether Triton is installed; where it is not, warn once that CUDA devices are slower."""
    if importlib.util.find_spec("triton") is not None:
        return True
    _log.warning("Triton is not installed: networks run on CUDA without compiled kernels; pip install triton")
    return False


@cache
def is_large(capability: tuple[int, int]) -> bool:
    """Return whether cards of this compute capability have the shared memory that kernels take; else warn once."""
    if capability in _LARGE:
        return True
    _log.warning(
        "A card of compute capability %d.%d has too little shared memory for the kernels (they need an A100, H100 or "
        "later card of a data centre): networks run there in plain torch",
        *capability,
    )
    return False
