"""Tensors go to a CUDA device in one transfer: end to end in one buffer of page-locked memory.

A batch of ragged jets is four tensors or more, and each transfer of its own costs a call and, from pageable memory, a
copy for which the host waits.
"""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate
from typing import Generic, Protocol, Self, TypeVar, final

import torch
from torch import Tensor

Change = Callable[[Tensor], Tensor]
Moved = TypeVar("Moved")


class Movable(Protocol):
    """What holds tensors, such as a batch of jets."""

    def map(self, change: Change) -> Self:
        """Return a copy with ``change`` applied to each tensor, always in the same order."""


MovableT = TypeVar("MovableT", bound=Movable)

_ALIGNMENT = 256  # bytes, as torch aligns what it allocates on a device


def moved(change_all: Callable[[Change], Moved], device: torch.device, *, non_blocking: bool = False) -> Moved:
    """Return what holds tensors with all of them on a device: in one transfer where that gains.

    Args:
        change_all: the ``map`` of what holds the tensors. It applies a function to each, always in the same order.
        device: where to.
        non_blocking: as for ``Tensor.to``, where each tensor has a transfer of its own.
    """
    tensors = tensors_of(change_all)
    if not gains(tensors, device):
        return change_all(lambda tensor: tensor.to(device, non_blocking=non_blocking))
    parts = iter(in_one_transfer(tensors, device))
    return change_all(lambda tensor: next(parts))


def tensors_of(change_all: Callable[[Change], object]) -> list[Tensor]:
    """Return the tensors of what holds them, given its ``map``, in the order in which that changes them."""
    tensors: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        tensors.append(tensor)
        return tensor

    change_all(note)
    return tensors


def in_one_transfer(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Return tensors of the CPU on a device, as parts of one buffer there. The host does not wait for the copy.

    Args:
        tensors: dense tensors in the memory of the CPU, of any types and shapes.
        device: where to; for a CUDA device the buffer on the CPU is page-locked.
    """
    sizes = [-(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT for tensor in tensors]
    ends = list(accumulate(sizes))
    buffer = torch.empty(ends[-1] if ends else 0, dtype=torch.uint8, pin_memory=device.type == "cuda")
    for tensor, size, end in zip(tensors, sizes, ends, strict=True):
        _part(buffer, tensor, end - size).copy_(tensor)
    moved = buffer.to(device, non_blocking=True)
    return [_part(moved, tensor, end - size) for tensor, size, end in zip(tensors, sizes, ends, strict=True)]


def gains(tensors: Sequence[Tensor], device: torch.device) -> bool:
    """Return whether one transfer is faster than one for each tensor: to CUDA, from pageable memory of the CPU."""
    return (
        device.type == "cuda"
        and len(tensors) > 1
        and all(tensor.device.type == "cpu" and not tensor.is_pinned() for tensor in tensors)
    )


@cache
def constants(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return numbers as a tensor on a device, which must not be changed. They are copied there once.

    The host waits for a copy of its own numbers to a CUDA device.
    """
    with torch.inference_mode(mode=False):  # so that a training can use them too
        return torch.tensor(values, dtype=dtype, device=device)


@final
class Sender(Generic[MovableT]):
    """Copies batches to a CUDA device on a stream of its own, while the device computes with earlier ones.

    Args:
        device: with an index, because each thread has a current device of its own.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def send(self, batch: MovableT) -> tuple[MovableT, torch.cuda.Event]:
        """Begin to copy a batch, from any thread; return it with the event of its arrival."""
        with torch.cuda.stream(self._stream):
            return moved(batch.map, self._device, non_blocking=True), self._stream.record_event()

    def receive(self, sent: tuple[MovableT, torch.cuda.Event]) -> MovableT:
        """Return a sent batch, for which the current stream waits, not the host."""
        batch, arrived = sent
        current = torch.cuda.current_stream(self._device)
        current.wait_event(arrived)

        def use(tensor: Tensor) -> Tensor:
            tensor.record_stream(
                current
            )  # its memory belongs to the other stream, which must not take it back too soon
            return tensor

        return batch.map(use)


def _part(buffer: Tensor, like: Tensor, begin: int) -> Tensor:
    """Return a part of a buffer of bytes as a tensor with the type and shape of another one."""
    return buffer[begin : begin + like.nbytes].view(like.dtype).view(like.shape)
