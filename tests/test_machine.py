"""BatchNorm over the rows of several processes, against the same rows in one."""

import socket
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import spawn

from phaze_ee.errors import UsageError
from phaze_ee.machine import (
    joined,
    launched_by_torchrun,
    machine_count,
    process_count,
    process_index,
    processes_per_machine,
    rank,
    resolve_device,
    summed,
    world_size,
)
from phaze_ee.models.particle_net.batch_norm import WeightedRows, normalise

PROCESSES = 2
CHANNELS = 5
SPLIT = (30, 14)  # rows of each process


def rows(process: int) -> WeightedRows:
    random = torch.Generator().manual_seed(process)
    row_EC, extra_RC = (
        torch.randn(count, CHANNELS, generator=random, dtype=torch.float64) for count in (SPLIT[process], 2)
    )
    return WeightedRows(
        (row_EC + process).requires_grad_(),
        extra_RC.requires_grad_(),
        torch.tensor([3.0, 8.0 * (process + 1)], dtype=torch.float64),
    )


def layer() -> nn.BatchNorm1d:
    torch.manual_seed(7)
    norm = nn.BatchNorm1d(CHANNELS).double()
    nn.init.normal_(norm.weight)
    return norm


def output(batch: WeightedRows, norm: nn.BatchNorm1d) -> Tensor:
    normalised = normalise(batch, norm, relu=True)
    weighted = (normalised.extra_RC.square().sum(dim=1) * batch.weight_R).sum()
    return normalised.row_EC.pow(3).sum() + weighted


def gradients(batch: WeightedRows, norm: nn.BatchNorm1d, value: Tensor) -> list[Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    found = torch.autograd.grad(value, [batch.row_EC, batch.extra_RC, norm.weight, norm.bias])
    return [*found, norm.running_mean, norm.running_var]


def work(process: int, port: int, folder: Path) -> None:
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=process, world_size=PROCESSES)
    assert (process_count(), process_index()) == (PROCESSES, process)
    batch, norm = rows(process), layer()
    found = gradients(batch, norm, output(batch, norm))
    parts = joined(torch.tensor([[process]])), summed(torch.tensor(1.0 + process))
    torch.save((found, parts), folder / f"{process}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[list[Tensor], tuple[Tensor, Tensor]]]:
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(work, args=(port, folder), nprocs=PROCESSES)  # type: ignore[no-untyped-call]
    return [torch.load(folder / f"{process}.pt") for process in range(PROCESSES)]


def whole() -> tuple[WeightedRows, nn.BatchNorm1d, list[WeightedRows]]:
    parts = [rows(process) for process in range(PROCESSES)]
    return WeightedRows(*(torch.cat(tensors) for tensors in zip(*parts, strict=True))), layer(), parts


def test_statistics_and_gradients_do_not_depend_on_the_split(
    answers: list[tuple[list[Tensor], tuple[Tensor, Tensor]]],
) -> None:
    together, norm, parts = whole()
    expected = torch.autograd.grad(
        output(together, norm),
        [*(part.row_EC for part in parts), *(part.extra_RC for part in parts), norm.weight, norm.bias],
    )
    found = [gradient for gradient, _ in answers]
    for process in range(PROCESSES):
        torch.testing.assert_close(found[process][0], expected[process])
        torch.testing.assert_close(found[process][1], expected[PROCESSES + process])
        torch.testing.assert_close(found[process][4], norm.running_mean)
        torch.testing.assert_close(found[process][5], norm.running_var)
    for parameter in (2, 3):  # which DDP sums up
        torch.testing.assert_close(sum(one[parameter] for one in found), expected[2 * PROCESSES + parameter - 2])


def test_sums_and_gathers(answers: list[tuple[list[Tensor], tuple[Tensor, Tensor]]]) -> None:
    for _, (all_processes, total) in answers:
        assert all_processes.tolist() == [[0], [1]]
        assert float(total) == 3.0


def test_alone_a_process_is_all_of_them() -> None:
    assert (process_count(), process_index()) == (1, 0)
    value = torch.ones(2)
    assert joined(value) is value
    assert summed(value) is value


def test_torchrun_says_which_process_this_is(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"RANK": 3, "WORLD_SIZE": 8, "LOCAL_WORLD_SIZE": 4, "GROUP_WORLD_SIZE": 2, "TORCHELASTIC_RUN_ID": "job"}
    for name in said:
        monkeypatch.delenv(name, raising=False)
    assert (rank(), world_size(), processes_per_machine(), machine_count(), launched_by_torchrun()) == (
        0,
        1,
        1,
        1,
        False,
    )
    for name, value in said.items():
        monkeypatch.setenv(name, str(value))
    assert (rank(), world_size(), processes_per_machine(), machine_count(), launched_by_torchrun()) == (
        3,
        8,
        4,
        2,
        True,
    )


def test_a_card_that_cannot_be_used_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(index: int) -> tuple[int, int]:
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nCUDA kernel errors might be")

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.setattr("torch.cuda.mem_get_info", busy)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UsageError, match=r"CUDA device 2 cannot be used .*busy.*CUDA_VISIBLE_DEVICES") as caught:
        resolve_device("auto")
    assert "\n" not in str(caught.value)
    assert resolve_device("cpu").type == "cpu"


@pytest.mark.parametrize(("free", "said"), [(10, 1), (79, 0)])
def test_a_card_that_others_use_is_named(
    free: int, said: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "3")  # of four processes that have one card each
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda index: (free * 10**9, 80 * 10**9))
    assert resolve_device("auto").type == "cuda"
    assert caplog.text.count(f"Other programs use {80 - free}.0 of 80.0 GB of CUDA device 0") == said
