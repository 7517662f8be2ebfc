"""Averaged weights: the numbers, and what the host waits for."""

from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from phaze_ee.training.averaging import AveragedWeights


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(3, 4, dtype=torch.float16), nn.BatchNorm1d(4)


def averaged(module: nn.Module) -> tuple[Any, Any]:
    average: Any = AveragedWeights(0.9)
    average._average_model = AveragedModel(module)
    return average, average._average_model.module


def change(module: nn.Module, value: float) -> None:
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            tensor.fill_(value)


def test_each_step_moves_by_a_tenth_and_counts_are_copied() -> None:
    module = Layers()
    average, found = averaged(module)
    change(module, 2)
    average._step(module, 1.0)
    change(module, 4)
    average._step(module, 0.1)
    assert found.layer.weight.unique().tolist() == [torch.tensor(2.2, dtype=torch.float16).item()]
    assert found.norm.running_var.unique().tolist() == [torch.tensor(2.2).item()]
    assert found.norm.num_batches_tracked == 4


def test_numbers_that_stay_are_the_same_bit_for_bit() -> None:
    module = Layers()
    average, found = averaged(module)
    for _ in range(50):
        average._step(module, 1 - 0.999)
    pairs = zip(module.state_dict().values(), found.state_dict().values(), strict=True)
    assert all(torch.equal(own, other) for own, other in pairs)


def test_the_host_reads_no_number_of_the_device() -> None:
    """The device without memory takes the place of a card: it has no numbers to read."""
    module = Layers().to("meta")
    average, _ = averaged(module)
    average._step(module, 0.1)
