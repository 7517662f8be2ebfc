"""Checks where kernels read and write in Triton's interpreter, which runs their programs one after the other.

A card runs the programs of a launch at once, and the threads of a program too. There, a number that one program writes
and another one reads is wrong by chance, and a place outside of all tensors ends the process. The interpreter shows
neither of them.
"""

from collections.abc import Iterable
from typing import Any, final

import numpy as np
import numpy.typing as npt
from torch import Tensor
from triton.runtime.interpreter import GridExecutor, InterpreterBuilder

Places = npt.NDArray[np.uint64]

_launch, _next_program = GridExecutor.__call__, InterpreterBuilder.set_grid_idx
_load, _store = InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store
_launches: list["_Launch"] = []
_NONE: Places = np.empty((4, 0), dtype=np.uint64)


def check_memory() -> None:
    """Let the interpreter fail where a card might: see :class:`_Launch`."""
    GridExecutor.__call__ = _checked
    InterpreterBuilder.set_grid_idx = _counted
    InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store = _read, _written


@final
class _Launch:
    """Where the programs of a launch read and write.

    Raises:
        AssertionError: a place is outside of the tensors of the launch, is written by two programs, by one program with
            different numbers, or is read by another program than the one that writes it, or by that one afterwards.
    """

    def __init__(self, kernel: str, tensors: Iterable[Tensor]) -> None:
        storages = [tensor.untyped_storage() for tensor in tensors]
        spans = sorted({(storage.data_ptr(), storage.data_ptr() + storage.nbytes()) for storage in storages})
        self.first_T, self.end_T = np.array(spans, dtype=np.uint64).reshape(-1, 2).T
        self.kernel, self.program, self.step = kernel, -1, 0
        self.reads: list[Places] = []
        self.writes: list[Places] = []

    def read(self, pointers: Any, mask: Any) -> None:
        self.reads.append(self._accesses(pointers, mask, np.zeros(pointers.data.shape, dtype=np.uint8)))

    def write(self, pointers: Any, mask: Any, value: Any) -> None:
        bits = np.ascontiguousarray(np.broadcast_to(value.data, pointers.data.shape))
        self.writes.append(self._accesses(pointers, mask, bits.view(f"u{bits.itemsize}")))

    def _accesses(self, pointers: Any, mask: Any, bits: npt.NDArray[Any]) -> Places:
        """Return place, program, step and number of each access that is not masked."""
        real = np.broadcast_to(mask.data, pointers.data.shape).astype(bool)
        place_A = pointers.data[real].astype(np.uint64)
        tensor_A = self.first_T.searchsorted(place_A, side="right") - 1
        inside_A = (tensor_A >= 0) & (place_A + np.uint64(_bytes(pointers)) <= self.end_T[tensor_A])
        assert inside_A.all(), f"{self.kernel}: {(~inside_A).sum()} of {len(place_A)} places are in no tensor"
        self.step += 1
        known = (np.full(len(place_A), number, dtype=np.uint64) for number in (self.program, self.step))
        return np.stack([place_A, *known, bits[real].astype(np.uint64)])

    def check(self) -> None:
        """Check what two accesses do with the same place."""
        written, read = (np.concatenate([_NONE, *accesses], axis=1) for accesses in (self.writes, self.reads))
        if not written.size:
            return
        place_W, program_W, step_W, bits_W = written[:, written[0].argsort(kind="stable")]
        again = place_W[1:] == place_W[:-1]
        self._refuse(again & (program_W[1:] != program_W[:-1]), "written by two programs")
        self._refuse(again & (bits_W[1:] != bits_W[:-1]), "written twice, with different numbers")
        place_R, program_R, step_R, _ = read
        first_R = place_W.searchsorted(place_R).clip(max=len(place_W) - 1)
        both = place_W[first_R] == place_R
        self._refuse(both & (program_W[first_R] != program_R), "read by another program than the one that writes")
        self._refuse(both & (step_W[first_R] < step_R), "read again after they are written")

    def _refuse(self, places: npt.NDArray[np.bool_], what: str) -> None:
        assert not places.any(), f"{self.kernel}: {places.sum()} places are {what}"


def _bytes(pointers: Any) -> int:
    return max(1, int(pointers.get_element_ty().primitive_bitwidth) // 8)


def _checked(grid: Any, *args: Any, **kwargs: Any) -> Any:
    _launches.append(_Launch(grid.fn.__name__, _tensors((*args, *kwargs.values()))))
    try:
        result = _launch(grid, *args, **kwargs)
        _launches[-1].check()
        return result
    finally:
        _launches.pop()


def _tensors(values: Iterable[Any]) -> Iterable[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple):
            yield from _tensors(value)


def _counted(builder: Any, *place: int) -> Any:
    if _launches:
        _launches[-1].program += 1
    return _next_program(builder, *place)


def _read(builder: Any, pointers: Any, mask: Any, *options: Any) -> Any:
    if _launches:
        _launches[-1].read(pointers, mask)
    return _load(builder, pointers, mask, *options)


def _written(builder: Any, pointers: Any, value: Any, mask: Any, *options: Any) -> Any:
    if _launches:
        _launches[-1].write(pointers, mask, value)
    return _store(builder, pointers, value, mask, *options)
