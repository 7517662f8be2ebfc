"""Times a call on a device, in a precision, with its peak of memory."""

import gc
import importlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from benchmarks.gpu_sections.rows import Row, one_line
from phaze_ee.errors import UsageError
from phaze_ee.kernels.availability import triton_available
from phaze_ee.machine import Precision
from phaze_ee.models.precision import checked_precision, float32_products, half_products

WARM_UP = 3
# Of a rival, a compiler or a kernel. Anything else ends the process, and the parent adds a line for it.
_FAILURES = (RuntimeError, UsageError, TypeError, ValueError, AssertionError, ImportError)
BYTES: dict[Precision, int] = {"float32": 4, "tf32": 4, "float16": 2, "bfloat16": 2}


class Measured(NamedTuple):
    """The median time of a call in seconds, and the peak of memory in GB above what was there before; CPU: None."""

    seconds: float
    memory_gb: float | None


def measured(work: Callable[[], object], rounds: int, device: torch.device, *, before: int = 0) -> Measured:
    """Time a call that is repeated, without the first ones, which compile.

    Args:
        work: what is called.
        rounds: timed calls.
        device: it is waited for after each call.
        before: bytes of the device that were in use before anything of ``work`` was made.
    """
    on_card = device.type == "cuda"
    seconds = []
    for number in range(min(WARM_UP, rounds) + rounds):
        if on_card and number == WARM_UP:
            torch.cuda.reset_peak_memory_stats(device)
        begin = time.perf_counter()
        work()
        if on_card:
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - begin)
    peak = (torch.cuda.max_memory_allocated(device) - before) / 1e9 if on_card else None
    return Measured(statistics.median(seconds[-rounds:]), peak)


def memory_in_use(device: torch.device) -> int:
    """Return the bytes of a card that tensors take, after a clean-up."""
    gc.collect()
    if device.type != "cuda":
        return 0
    torch.cuda.empty_cache()
    return torch.cuda.memory_allocated(device)


@contextmanager
def products(precision: Precision, device: torch.device) -> Iterator[None]:
    """Let products have operands in a precision; a card that does not have it is refused."""
    if device.type == "cuda":
        checked_precision(precision, device)
    with float32_products(precision, device), half_products(precision, device):
        yield


def attempt(section: str, who: str, precision: str, measure: Callable[[], Row]) -> Row:
    """Return the row of a measurement; where it fails, a row with the reason. An error of the card ends the process."""
    if "torch._dynamo" in sys.modules:  # the compiler, which takes long to import
        torch._dynamo.reset()
    try:
        return measure()
    except failures() as error:
        if "CUDA error" in str(error):  # this process cannot use the card again; the parent starts another one
            raise
        return Row(section, who, precision, error=one_line(error))


def failures() -> tuple[type[Exception], ...]:
    """Return the errors that make a line of the table."""
    if not triton_available():
        return _FAILURES
    errors: Any = importlib.import_module("triton.errors")
    return (*_FAILURES, errors.TritonError)
