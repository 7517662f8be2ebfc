"""Jets go to a device in one transfer, with the same numbers."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from phaze_ee.transfer import Sender, gains, in_one_transfer, moved
from phaze_ee.types import JetBatch, Jets, RaggedJets, with_globals
from tests.jets import random_jets

CUDA = torch.device("cuda")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


def ragged(counts: tuple[int, ...] = (5, 1, 0, 12)) -> RaggedJets:
    """Jets of two types of numbers, with a further collection and numbers of the jets."""
    first, second = (random_jets(counts, seed=seed, dtype=torch.float32).ragged() for seed in (0, 1))
    jets = with_globals(replace(first, more={"sv": second}), torch.randn(len(counts), 3, dtype=torch.float64))
    assert isinstance(jets, RaggedJets)
    return jets


def tensors_of(jets: Jets) -> list[Tensor]:
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    jets.map(note)
    return found


class Transfers(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the copies from the CPU to another device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, Tensor) and args and isinstance(args[0], Tensor) and found.device != args[0].device:
            self.count += 1
        return found


def test_numbers_types_and_shapes_stay() -> None:
    tensors = [*tensors_of(ragged()), torch.tensor(3), torch.tensor([True, False]), torch.empty(0, 2)]
    found = in_one_transfer(tensors, torch.device("cpu"))
    for part, tensor in zip(found, tensors, strict=True):
        assert (part.dtype, part.shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(part, tensor)
        assert part.data_ptr() % part.element_size() == 0
    assert len({part.untyped_storage().data_ptr() for part in found}) == 1


def test_a_transposed_tensor_is_copied_right() -> None:
    tensor = torch.arange(6.0).view(2, 3).T
    (part,) = in_one_transfer([tensor], torch.device("cpu"))
    assert torch.equal(part, tensor)


def test_nothing_is_no_error() -> None:
    assert in_one_transfer([], torch.device("cpu")) == []


def test_jets_without_padding_need_one_transfer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device without memory takes the place of a card: what it gets is counted."""
    monkeypatch.setattr("phaze_ee.transfer.gains", lambda tensors, device: True)
    jets = ragged()
    with Transfers() as transfers:
        there = jets.to("meta")
    assert transfers.count == 1
    for found, tensor in zip(tensors_of(there), tensors_of(jets), strict=True):
        assert (found.device.type, found.dtype, found.shape) == ("meta", tensor.dtype, tensor.shape)


def test_it_is_for_a_card_and_for_pageable_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = tensors_of(ragged())
    assert gains(tensors, CUDA)
    assert not gains(tensors, torch.device("cpu"))
    assert not gains(tensors[:1], CUDA)
    assert not gains([tensors[0].to("meta"), tensors[1]], CUDA)
    monkeypatch.setattr(Tensor, "is_pinned", lambda tensor: True)
    assert not gains(tensors, CUDA), "a loader has put them into page-locked memory"


@needs_cuda
def test_a_card_gets_the_same_jets() -> None:
    jets = ragged()
    there = jets.to("cuda")
    for found, tensor in zip(tensors_of(there), tensors_of(jets), strict=True):
        assert found.is_cuda
        assert torch.equal(found.cpu(), tensor)


def test_a_batch_needs_one_transfer_with_its_labels_and_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phaze_ee.transfer.gains", lambda tensors, device: True)
    batch = JetBatch(ragged(), torch.arange(4), {}, torch.randn(4, 2))
    with Transfers() as transfers:
        sent = moved(batch.map, torch.device("meta"))
    assert transfers.count == 1
    assert sent.target_NR is not None
    assert {sent.label_N.device.type, sent.target_NR.device.type, sent.inputs.particle_count_N.device.type} == {"meta"}


@needs_cuda
def test_a_sender_copies_beside_what_the_card_computes() -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    sender = Sender[JetBatch](device)
    work = torch.randn(4096, 4096, device=device)
    batches = [JetBatch(ragged((5, number, 12)), torch.arange(3)) for number in range(20)]
    for batch in batches:
        for _ in range(5):
            work = (work @ work).clamp(-1, 1)
        found = sender.receive(sender.send(batch))
        torch.testing.assert_close(found.label_N.cpu(), batch.label_N)
        for there, here in zip(tensors_of(found.inputs), tensors_of(batch.inputs), strict=True):
            assert torch.equal(there.cpu(), here)
