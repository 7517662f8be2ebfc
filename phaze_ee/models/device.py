"""Where a network runs."""

from typing import Literal

import torch

from phaze_ee.errors import UsageError


def resolve_device(wanted: Literal["auto", "cuda", "cpu"]) -> torch.device:
    """Return the device of the option ``device``; ``auto`` takes CUDA where there is one.

    Raises:
        UsageError: CUDA is wanted and this machine has none.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise UsageError("device = 'cuda', but PyTorch finds no CUDA device here; set device to 'auto' or 'cpu'")
    return torch.device("cuda" if available and wanted != "cpu" else "cpu")
