"""The checks of memory that all tests of kernels run under: they find what a card would do wrong."""

import pytest
import torch

COUNT, BLOCK = 10, 4


@pytest.fixture(autouse=True)
def in_interpreter(device: torch.device) -> None:
    if device.type == "cuda":
        pytest.skip("a card does not check memory; these tests are of the interpreter's checks")


def launch(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    from tests.kernels import faulty

    given, out = torch.arange(1.0, COUNT + 1), torch.zeros(COUNT)
    getattr(faulty, name)[(3,)](given, out, COUNT, BLOCK)
    return given, out


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ("read_outside", "2 of 4 places are in no tensor"),
        ("write_outside", "1 of 4 places are in no tensor"),
        ("write_for_another", "8 places are written by two programs"),
        ("write_two_numbers", "7 places are written twice, with different numbers"),
        ("read_of_another", "2 places are read by another program than the one that writes"),
        ("read_after_write", "10 places are read again after they are written"),
    ],
)
def test_a_faulty_kernel_fails(kernel: str, message: str) -> None:
    with pytest.raises(Exception, match=f"{kernel}: {message}"):
        launch(kernel)


def test_another_kernel_runs() -> None:
    given, out = launch("doubled")
    assert torch.equal(out, 2 * given)


def test_new_memory_is_spoilt() -> None:
    assert torch.empty(3).isnan().all()
    assert torch.zeros(3).new_empty(3).isnan().all()
