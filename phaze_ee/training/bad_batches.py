"""Batches whose loss is not finite: left out, or kept for a look at them."""

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


class _LeftOut(Exception):  # noqa: N818 - no error: it takes the way out of an optimiser's step
    pass


@final
class BadBatches:
    """Leaves out a few batches as if they had not come: no step is taken, and no running statistics change.

    Args:
        most: how many batches may be left out.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0
        self._before: list[Tensor] = []
        self._leave_out = False

    @contextmanager
    def guarding(self, module: nn.Module) -> Iterator[None]:
        """Remember the buffers of a module before it sees a batch."""
        self._before = [buffer.clone() for buffer in module.buffers()] if self.most else []
        self._leave_out = False
        yield

    def skip(self, module: nn.Module, where: str) -> bool:
        """Undo what the last batch did, and return whether it may be left out."""
        if self.count == self.most:
            return False
        self.count += 1
        for buffer, before in zip(module.buffers(), self._before, strict=True):
            buffer.copy_(before)
        _log.warning("the loss is not finite in %s; the batch is left out (%d of %d)", where, self.count, self.most)
        self._leave_out = True
        return True

    def wrapped(self, closure: Callable[[], Any] | None) -> Callable[[], Any] | None:
        """Return a closure for the optimiser that ends its step where the batch is left out."""
        if closure is None or not self.most:
            return closure

        def run() -> Any:
            result = closure()
            if self._leave_out:
                raise _LeftOut
            return result

        return run

    @contextmanager
    def leaving_out_the_step(self) -> Iterator[None]:
        """Let an optimiser's step end that a wrapped closure has ended."""
        with suppress(_LeftOut):
            yield


def save_batch(batch: JetBatch, path: Path) -> None:
    """Write the tensors of a batch, padded jets or stored features, for ``torch.load``.

    Raises:
        RunError: they could not be written.
    """
    inputs = batch.inputs.padded() if isinstance(batch.inputs, RaggedJets) else batch.inputs
    tensors = {item.name: getattr(inputs, item.name) for item in fields(inputs)}
    with replacing(path) as temporary:
        torch.save({**tensors, "label_N": batch.label_N}, temporary)
