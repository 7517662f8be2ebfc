"""Batches with a non-finite loss: they are skipped, or saved for inspection."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from phaze_ee.atomic import replacing
from phaze_ee.types import JetBatch, RaggedJets

_log = logging.getLogger(__name__)


class _Skipped(Exception):  # noqa: N818 - no error: it ends the step of an optimiser
    pass


@final
class HostFlag:
    """A truth value that a device computes, copied to the host without waiting for the device.

    Args:
        flag: the value, a tensor without dimensions.
    """

    def __init__(self, flag: Tensor) -> None:
        self._copied: torch.cuda.Event | None = None
        self._flag = flag
        if flag.is_cuda:
            self._flag = torch.empty_like(flag, device="cpu", pin_memory=True).copy_(flag, non_blocking=True)
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record()

    def read(self) -> bool:
        """Return the value; wait until the device has computed it, not for later work of the device."""
        if self._copied is not None:
            self._copied.synchronize()
        return bool(self._flag)


@final
class BadBatches:
    """Skips a few batches: running statistics do not change, and the optimiser takes a step with the other batches.

    If there are no others in a step, the optimiser takes none.

    Args:
        most: skip at most this many batches.

    Attributes:
        count: how many batches were skipped.
        good: how many batches of the current step were not.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = self.good = 0
        self._before: list[Tensor] = []

    @contextmanager
    def guarding(self, module: nn.Module, *, begins_step: bool) -> Iterator[None]:
        """Keep a copy of the buffers of a module before it sees a batch."""
        self._before = [buffer.clone() for buffer in module.buffers()] if self.most else []
        self.good = 0 if begins_step else self.good
        yield

    @property
    def may_skip(self) -> bool:
        """Whether one more batch may be skipped."""
        return self.count < self.most

    def skip(self, module: nn.Module, where: str) -> None:
        """Restore the buffers and skip the last batch; one more must be allowed."""
        self.count += 1
        for buffer, before in zip(module.buffers(), self._before, strict=True):
            buffer.copy_(before)
        _log.warning("the loss is not finite in %s; the batch is skipped (%d of %d)", where, self.count, self.most)

    def wrapped(self, closure: Callable[[], Any] | None) -> Callable[[], Any] | None:
        """Return the closure for the optimiser, such that it ends the step if all its batches are skipped."""
        if closure is None or not self.most:
            return closure

        def run() -> Any:
            result = closure()
            if not self.good:
                raise _Skipped
            return torch.zeros(()) if result is None else result  # for None Lightning would take no step

        return run

    @contextmanager
    def skipping_the_step(self) -> Iterator[None]:
        """Run a step of an optimiser that a wrapped closure may end."""
        with suppress(_Skipped):
            yield


def save_batch(batch: JetBatch, path: Path) -> None:
    """Write the tensors of a batch, padded jets or stored features, as a dictionary for ``torch.load``.

    Raises:
        RunError: the file cannot be written.
    """
    inputs = batch.inputs.padded() if isinstance(batch.inputs, RaggedJets) else batch.inputs
    with replacing(path) as temporary:
        torch.save({**_tensors(inputs), "label_N": batch.label_N}, temporary)


def _tensors(inputs: Any) -> dict[str, Any]:
    """Return the fields of a batch; those of a further collection have its name before their own."""
    own = {item.name: getattr(inputs, item.name) for item in fields(inputs)}
    more = own.pop("more", {})
    return own | {f"{name}_{key}": value for name, jets in more.items() for key, value in _tensors(jets).items()}
