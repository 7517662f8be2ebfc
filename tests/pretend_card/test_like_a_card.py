"""What holds of any card, and so of the one that is not there."""

import os
import threading

import pytest
import torch
from torch import Tensor, nn

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


def numbers() -> Tensor:
    return torch.arange(6.0).view(2, 3).to("cuda")


@pytest.mark.parametrize("make", [
    lambda: torch.zeros(2, device="cuda"),
    lambda: torch.tensor([1.0], device="cuda"),
    lambda: numbers().new_zeros(2),
    lambda: numbers().new_tensor([1]),
    lambda: torch.ones_like(numbers()),
    lambda: numbers()[0],
    lambda: nn.Linear(2, 2).to("cuda").weight,
])  # fmt: skip
def test_what_is_made_there_is_there(make: object) -> None:
    assert callable(make)
    made = make()
    assert made.is_cuda
    assert made.device == torch.device("cuda", 0)
    assert not made.cpu().is_cuda


@pytest.mark.skipif("PRETEND_CARD" not in os.environ, reason="new memory of a card may hold anything")
def test_new_memory_is_spoilt() -> None:
    for made in (torch.empty(3, device="cuda"), numbers().new_empty(3), torch.empty_like(numbers())):
        assert bool(made.isnan().all())


def test_tensors_of_two_devices_do_not_mix() -> None:
    for operation in (torch.add, torch.minimum, lambda one, other: torch.cat([one, other])):
        with pytest.raises(RuntimeError, match=r"device|on the CPU"):
            operation(numbers(), torch.ones(2, 3))
    assert (numbers() + torch.tensor(1.0)).is_cuda, "a single number goes with any"
    assert numbers()[torch.tensor([0])].tolist() == [[0.0, 1.0, 2.0]], "and so do indices"


def test_arrays_are_of_the_cpu() -> None:
    with pytest.raises((TypeError, RuntimeError)):
        numbers().numpy()


def test_changes_in_place_reach_all_views() -> None:
    whole = numbers()
    whole[0].add_(1)
    whole[:, 2] = 7
    assert whole.tolist() == [[1.0, 2.0, 7.0], [3.0, 4.0, 7.0]]


def test_gradients_come_from_a_thread_of_their_own() -> None:
    threads = []
    weight = numbers().requires_grad_()
    weight.register_hook(lambda gradient: threads.append(threading.get_ident()))  # type: ignore[no-untyped-call]
    (weight * weight).sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert weight.grad.is_cuda
    torch.testing.assert_close(weight.grad.cpu(), 2 * numbers().cpu())
    assert threads != [threading.get_ident()]


def test_autocast_halves_operands() -> None:
    with torch.autocast("cuda", torch.bfloat16):
        assert (numbers() @ numbers().T).dtype == torch.bfloat16


@pytest.mark.parametrize("wait", [
    lambda tensor: tensor.sum().item(),
    lambda tensor: tensor.tolist(),
    lambda tensor: tensor.cpu(),
    lambda tensor: tensor.nonzero(),
    lambda tensor: tensor[tensor > 1],
    lambda tensor: bool((tensor > 1).all()),
])  # fmt: skip
def test_waits_are_noticed(wait: object) -> None:
    assert callable(wait)
    tensor = numbers()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with pytest.raises(RuntimeError, match=r"synchroniz|waits for the card"):
            wait(tensor)
        assert torch.where(tensor > 1, tensor, 0.0).is_cuda, "this needs no wait"
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_kernels_take_no_tensor_of_the_cpu() -> None:
    from phaze_ee.kernels.neighbours import nearest_neighbours

    whole = torch.tensor([0, 0, 0]), torch.tensor([0]), torch.tensor([3])
    points = torch.randn(3, 2).to("cuda")
    jet_V, first_N, count_N = (tensor.to("cuda") for tensor in whole)
    assert nearest_neighbours(points, jet_V, first_N, count_N, 2).is_cuda
    with pytest.raises((RuntimeError, ValueError), match=r"CPU|cpu"):
        nearest_neighbours(points, whole[0], first_N, count_N, 2)


def test_a_graph_computes_with_what_is_there_when_it_is_replayed() -> None:
    given, total = numbers(), torch.zeros(3).to("cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        rows = 2 * given
        rows[0].add_(1)
        total.add_(rows.sum(dim=0))
    total.zero_()
    for _ in range(2):
        graph.replay()
    assert total.tolist() == [14.0, 22.0, 30.0]
    given.zero_()
    graph.replay()
    assert rows.tolist() == [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
    assert total.tolist() == [15.0, 23.0, 31.0]
