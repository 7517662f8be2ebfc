"""Kernels run on a CUDA device where there is one, else in Triton's interpreter on the CPU."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The device of the kernels. Modules with kernels import Triton: import them in tests, not at the top."""
    triton = pytest.importorskip("triton", reason="needs Triton")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if triton.__version__.startswith("3.6."):
        pytest.skip("the interpreter of Triton 3.6 makes loop bounds of arrays, which NumPy deprecates and 2.4 refuses")
    from tests.kernels.interpreter import compute_in_bfloat16, replace_once
    from tests.kernels.memory import check_memory

    compute_in_bfloat16()
    replace_once()
    check_memory()
    return torch.device("cpu")


@pytest.fixture
def on_card(monkeypatch: pytest.MonkeyPatch, device: torch.device) -> torch.device:
    """The device, with kernels even where it is the CPU."""
    for user in ("particle_net.neighbours", "particle_net.edge_conv", "ragged_attention", "fused_pairs", "token_rows"):
        monkeypatch.setattr(f"phaze_ee.models.{user}.runs_kernels", lambda tensor: tensor.device.type == device.type)
    for user in ("backbone", "transformer_stages"):
        monkeypatch.setattr(f"phaze_ee.models.{user}.has_kernels", lambda used: used.type == device.type)
    return device


@pytest.fixture(autouse=True)
def spoilt_memory() -> Iterator[None]:
    """New memory of the CPU holds NaN and large numbers, as that of a card may hold anything."""
    torch.use_deterministic_algorithms(not torch.cuda.is_available())  # CUDA would refuse some operations
    yield
    torch.use_deterministic_algorithms(mode=False)
