"""Gives this process the card, before it imports torch."""

import ctypes
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

_GB = 10**9


def start(hooks: Path) -> None:
    """Let torch and Triton find the card.

    Args:
        hooks: the library of hooks.cpp.
    """
    assert "torch" not in sys.modules, "torch asks for cards when it is imported"
    os.environ["TRITON_INTERPRET"] = "1"
    found = importlib.util.find_spec("torch")
    assert found is not None
    assert found.origin is not None
    for library in (Path(found.origin).parent / "lib" / "libtorch_cpu.so", hooks):
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    import torch
    import torch._inductor.utils  # it would look for the functions of a real card when the first operation runs

    torch.__future__.set_overwrite_module_params_on_conversion(True)  # numbers cannot change places in a parameter
    _replace(torch.cuda, _answers())
    torch.Tensor.pin_memory = lambda tensor, device=None: tensor.clone()  # type: ignore[assignment, method-assign]
    _create_on_cpu()
    _run_kernels()
    torch.use_deterministic_algorithms(mode=True)  # fills new memory with NaN and large numbers: it may hold anything
    _enter_in_threads()


def _replace(owner: Any, functions: dict[str, Any]) -> None:
    for name, function in functions.items():
        assert hasattr(owner, name), name
        setattr(owner, name, function)


class Event:
    """An event of the card, which does everything at once."""

    recorded = False

    def __init__(self, *options: Any, **more: Any) -> None: ...

    def record(self, stream: Any = None) -> None:
        self.recorded = True

    def wait(self, stream: Any = None) -> None:
        assert self.recorded

    def synchronize(self) -> None:
        assert self.recorded

    def query(self) -> bool:
        return True

    def elapsed_time(self, end: "Event") -> float:
        return 1.0


class Stream:
    """A stream of the card."""

    def __init__(self, device: Any = None, **options: Any) -> None:
        from tests.pretend_card.tensors import CARD

        self.device = CARD
        assert device is None or device == CARD, f"{device} may be another device in another thread"

    def record_event(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        event.wait(self)

    def wait_stream(self, stream: "Stream") -> None: ...

    def synchronize(self) -> None: ...


@contextmanager
def _capture(graph: Any, *memory_and_stream: Any, **options: Any) -> Iterator[None]:
    from tests.pretend_card.tensors import captured, no_waits

    no_waits.append("while a graph is captured")
    captured.append(graph)
    try:
        yield
    finally:
        captured.pop()
        no_waits.pop()
        graph.spoil()


def _set_sync_debug_mode(mode: str) -> None:
    from tests.pretend_card.tensors import no_waits

    no_waits[:] = ["in torch's debug mode"] if mode == "error" else []


def _answers() -> dict[str, Any]:
    """Return what torch.cuda says of the card, an H200."""
    import torch

    from tests.pretend_card.tensors import Graph

    state, stream = torch.zeros(16, dtype=torch.uint8), Stream()
    nothing: dict[str, Callable[..., None]] = {
        name: lambda *given, **more: None
        for name in (
            "_lazy_init", "init", "set_device", "synchronize", "empty_cache", "reset_peak_memory_stats", "manual_seed",
            "manual_seed_all", "set_rng_state", "set_rng_state_all",
        )
    }  # fmt: skip
    return nothing | {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda device=None: "a card that is not there",
        "get_device_capability": lambda device=None: (9, 0),
        "get_device_properties": lambda device=None: SimpleNamespace(major=9, minor=0, total_memory=140 * _GB),
        "is_bf16_supported": lambda including_emulation=True: True,
        "mem_get_info": lambda device=None: (139 * _GB, 140 * _GB),
        "memory_allocated": lambda device=None: _GB,
        "max_memory_allocated": lambda device=None: 2 * _GB,
        "memory_stats": lambda device=None: {},
        "get_rng_state": lambda device=None: state,
        "get_rng_state_all": lambda: [state],
        "current_stream": lambda device=None: stream,
        "default_stream": lambda device=None: stream,
        "stream": lambda stream: nullcontext(),
        "device": lambda device: nullcontext(),
        "set_sync_debug_mode": _set_sync_debug_mode,
        "Event": Event,
        "Stream": Stream,
        "CUDAGraph": Graph,
        "graph": _capture,
        "graph_pool_handle": lambda: (0, 1),
    }


def _create_on_cpu() -> None:
    """Let what makes tensors of Python's numbers make them on the CPU, and copy them: it would skip Card."""
    import torch

    from tests.pretend_card.tensors import CARD, refuse_wait

    def copied(make: Callable[..., Any]) -> Callable[..., Any]:
        def made(numbers: Any, *given: Any, device: Any = None, requires_grad: bool = False, **more: Any) -> Any:
            if device is None or torch.device(device).type != "cuda":
                return make(numbers, *given, device=device, requires_grad=requires_grad, **more)
            refuse_wait(make.__name__)
            with torch.no_grad():
                there = make(numbers, *given, **more).to(CARD, non_blocking=True)
            return there.requires_grad_(requires_grad)

        return made

    as_tensor = torch.as_tensor

    def converted(numbers: Any, dtype: Any = None, device: Any = None) -> Any:
        return as_tensor(numbers, dtype=dtype).to(device)

    torch.tensor = copied(torch.tensor)
    torch.as_tensor = converted  # type: ignore[assignment]


def _run_kernels() -> None:
    """Let Triton's interpreter run kernels on numbers of the card, and on no tensor of the CPU."""
    from torch import Tensor
    from torch.utils._python_dispatch import _disable_current_modes
    from triton.runtime.interpreter import GridExecutor

    from tests.kernels.interpreter import compute_in_bfloat16, replace_once
    from tests.kernels.memory import check_memory
    from tests.pretend_card.tensors import CardTensor, captured, numbers_of

    compute_in_bfloat16()
    replace_once()
    check_memory()
    launch = GridExecutor.__call__

    def run(grid: Any, *args: Any, **kwargs: Any) -> Any:
        for value in (*args, *kwargs.values()):
            if isinstance(value, Tensor) and not isinstance(value, CardTensor):
                raise RuntimeError(f"{grid.fn.__name__} got a tensor of shape {tuple(value.shape)} on the CPU")
        numbers = {name: numbers_of(value) for name, value in kwargs.items()}
        again = partial(launch, grid, *map(numbers_of, args), **numbers)
        if captured:
            captured[-1].work.append(again)
        with _disable_current_modes():
            return again()

    GridExecutor.__call__ = run


def _enter_in_threads() -> None:
    """Enter the card's mode in this thread and in each that Python starts."""
    from tests.pretend_card.tensors import Card

    run = threading.Thread.run

    def run_on_card(thread: threading.Thread) -> None:
        with Card():  # type: ignore[no-untyped-call]
            run(thread)

    Card().__enter__()  # type: ignore[no-untyped-call]
    threading.Thread.run = run_on_card  # type: ignore[assignment, method-assign]
