"""Kernels run on a CUDA device where there is one, else in Triton's interpreter on the CPU."""

import pytest
import torch


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The device of the kernels. Modules with kernels import Triton: import them in tests, not at the top."""
    pytest.importorskip("triton", reason="needs Triton")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
