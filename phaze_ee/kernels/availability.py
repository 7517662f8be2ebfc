"""Whether Triton's kernels run for a tensor, decided in one place."""

import importlib.util
import logging
from functools import cache

from torch import Tensor

_log = logging.getLogger(__name__)


def runs_kernels(tensor: Tensor) -> bool:
    """Return whether the kernels of this package run on the device of a tensor: a CUDA device, with Triton installed.

    Modules with kernels import Triton, so they are imported after this has returned True.
    """
    return tensor.is_cuda and triton_available()


@cache
def triton_available() -> bool:
    """Return whether Triton is installed; where it is not, warn once that CUDA devices are slower."""
    if importlib.util.find_spec("triton") is not None:
        return True
    _log.warning("Triton is not installed: ParticleNet runs on CUDA without compiled kernels; pip install triton")
    return False
