"""Tensors that say that they are on the card."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from tests.kernels.waits import waits_for_values

CARD = torch.device("cuda", 0)
aten = torch.ops.aten
_COPIES = (aten.copy_.default, aten._to_copy.default)
_PUTS = (aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default)
_INDEXED = (aten.index.Tensor, *_PUTS)
_READS = (aten._local_scalar_dense.default, aten.equal.default)
_SOFTMAX = (aten._softmax.default, aten._log_softmax.default)
_SOFTMAX_BACK = (aten._softmax_backward_data.default, aten._log_softmax_backward_data.default)
# Why no wait is allowed at the moment.
no_waits: list[str] = []
_SPOILT = 7.5
# The graph that is captured.
captured: list["Graph"] = []


class Graph:
    """A graph of the card: operations and kernels, which are done again in the same memory."""

    def __init__(self) -> None:
        self.work: list[Callable[[], object]] = []
        self.made: list[Tensor] = []

    def replay(self) -> None:
        with _disable_current_modes(), torch.inference_mode():
            for again in self.work:
                again()

    def spoil(self) -> None:
        """Let answers be wrong if they were not replayed: a card computes nothing in a capture.

        Whole numbers stay: they say where particles are, and the next graph is captured by computing with them.
        """
        with _disable_current_modes(), torch.inference_mode():
            for numbers in self.made:
                if numbers.is_floating_point():
                    numbers.fill_(_SPOILT)


class CardTensor(Tensor):
    """A tensor of the card; ``numbers`` has what is in it."""

    numbers: Tensor

    def __new__(cls, numbers: Tensor) -> "CardTensor":
        shell = torch.empty_strided(numbers.shape, numbers.stride(), dtype=numbers.dtype, device="meta")
        made: CardTensor = Tensor._make_subclass(cls, shell, False, dispatch_device=True, device_for_backend_keys=CARD)
        made.numbers = numbers
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return run(operation, args, kwargs or {})

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return CARD

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    @property
    def is_cpu(self) -> bool:  # type: ignore[override]
        return False

    @property
    def is_meta(self) -> bool:  # type: ignore[override]
        return False

    def get_device(self) -> int:
        return 0

    def is_pinned(self, *device: Any) -> bool:
        return False

    def record_stream(self, stream: Any) -> None:
        assert stream is not None

    def new_tensor(self, numbers: Any, **options: Any) -> Tensor:  # type: ignore[override]
        return torch.tensor(numbers, **{"dtype": self.dtype, "device": CARD, **options})

    def tolist(self) -> Any:
        refuse_wait("tolist")
        return self.numbers.tolist()

    def data_ptr(self) -> int:
        return self.numbers.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.numbers.untyped_storage()

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            copied: Tensor = CardTensor(self.numbers.clone())
            parameter = isinstance(self, torch.nn.Parameter)
            memo[id(self)] = torch.nn.Parameter(copied, self.requires_grad) if parameter else copied
        found: Tensor = memo[id(self)]
        return found

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Be stored as a tensor of the CPU, which ``map_location`` makes of tensors of a card as well."""
        plain: Tensor = self.numbers.detach().clone()
        if isinstance(self, torch.nn.Parameter):
            plain = torch.nn.Parameter(plain, self.requires_grad)
        return plain.__reduce_ex__(protocol)  # type: ignore[no-untyped-call]

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"{self.numbers!r} on {CARD}"


class Card(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Makes what is asked to be on the card, while it is entered."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(operation, args, kwargs or {})


def refuse_wait(what: str) -> None:
    """Raise an error where the host must not wait for the card.

    Raises:
        RuntimeError: a graph is captured, or the debug mode of torch asks for errors.
    """
    if no_waits:
        raise RuntimeError(f"{what} waits for the card {no_waits[-1]}")


def numbers_of(value: Any) -> Any:
    """Return the numbers of a tensor of the card, and anything else as it is."""
    return value.numbers if isinstance(value, CardTensor) else value


def run(operation: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Run an operation of torch where its tensors are.

    Raises:
        RuntimeError: its tensors are on two devices; or the host would wait where it must not.
    """
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, CardTensor)]
    if operation == torch.ops.prim.device.default:
        return CARD
    if operation == aten._has_compatible_shallow_copy_type.default:
        return not there and operation(*args)
    if operation._can_decompose():  # in inference mode, operations made of others come as they are
        with Card():  # type: ignore[no-untyped-call]
            return operation.decompose(*args, **kwargs)
    if operation not in _COPIES:
        _check_devices(operation, args, tensors, there)
    _check_waits(operation, args, kwargs, there)
    found = _computed(operation, tree_map(numbers_of, args), _on_cpu(kwargs))
    if not _goes_to_card(operation, args, kwargs, there):
        return found
    if captured:
        captured[-1].work.append(partial(_again, operation, args, kwargs, found))
        if not any(result.alias_info for result in operation._schema.returns):
            captured[-1].made += tree_leaves(found)
    return _wrapped(operation, args, kwargs, found, there)


def _again(operation: Any, args: Sequence[Any], kwargs: dict[str, Any], found: Any) -> None:
    """Do an operation of a graph again, into the memory of its results."""
    again = _computed(operation, tree_map(numbers_of, args), _on_cpu(kwargs))
    for result, number in zip(tree_leaves(found), tree_leaves(again), strict=True):
        if isinstance(result, Tensor) and result.data_ptr() != number.data_ptr():  # else it is a view or was changed
            result.copy_(number)


def _check_devices(operation: Any, args: Sequence[Any], tensors: list[Tensor], there: list[CardTensor]) -> None:
    """Refuse tensors of the CPU beside those of the card, but for single numbers and indices."""
    others = [one for one in tensors if not isinstance(one, CardTensor) and one.dim() > 0 and one.device.type == "cpu"]
    if operation in _INDEXED:
        indices = {id(index) for index in args[1]}
        others = [one for one in others if id(one) not in indices]
    if there and others:
        shapes = ", ".join(str(tuple(one.shape)) for one in others)
        raise RuntimeError(f"{operation}: tensors are on the card, but those of shape {shapes} are on the CPU")


def _goes_to_card(operation: Any, args: Sequence[Any], kwargs: dict[str, Any], there: list[CardTensor]) -> bool:
    if operation == aten.copy_.default:
        return isinstance(args[0], CardTensor)
    wanted = kwargs.get("device")
    return bool(there) if wanted is None else _is_card(wanted)


def _is_card(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _check_waits(operation: Any, args: Sequence[Any], kwargs: dict[str, Any], there: list[CardTensor]) -> None:
    blocks = _crosses(operation, args, kwargs, there) and True not in (kwargs.get("non_blocking"), *args[2:])
    if blocks or (there and (operation in _READS or waits_for_values(operation, args, kwargs))):
        refuse_wait(str(operation))


def _crosses(operation: Any, args: Sequence[Any], kwargs: dict[str, Any], there: list[CardTensor]) -> bool:
    """Return whether an operation copies between the CPU and the card."""
    if operation == aten.copy_.default:
        return len(there) == 1
    return operation == aten._to_copy.default and bool(there) != _goes_to_card(operation, args, kwargs, there)


def _on_cpu(kwargs: dict[str, Any]) -> dict[str, Any]:
    kept = {name: tree_map(numbers_of, value) for name, value in kwargs.items() if name != "pin_memory"}
    if _is_card(kept.get("device")):
        kept["device"] = torch.device("cpu")
    return kept


def _computed(operation: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Return the result on the CPU, for some operations in a way that the CPU knows."""
    if operation == aten._local_scalar_dense.default:
        return args[0].item()
    if operation == aten._pin_memory.default or operation == aten._to_copy.default:
        return args[0].to(kwargs.get("device"), kwargs.get("dtype") or args[0].dtype, copy=True)
    if operation in _SOFTMAX and args[2]:  # of half precision, in float32
        return operation(args[0].float(), args[1], False)
    if operation in _SOFTMAX_BACK and args[3] != args[0].dtype:
        return operation(*args[:3], args[0].dtype).to(args[3])
    return operation(*args, **kwargs)


def _wrapped(operation: Any, args: Sequence[Any], kwargs: dict[str, Any], found: Any, there: list[CardTensor]) -> Any:
    """Return the results as tensors of the card; what an operation changed is the very tensor that it was given."""
    results = operation._schema.returns
    views = any(result.alias_info is not None and not result.alias_info.is_write for result in results)
    normal = views and there and not there[0].is_inference()
    with torch.inference_mode(mode=False) if normal else nullcontext():
        wrapped = tree_map(lambda one: CardTensor(one) if type(one) is Tensor else one, found)
    changed = _changed(operation, args, kwargs)
    if not changed or not results:
        return wrapped
    given = [changed.get(_written(result), one) for result, one in zip(results, tree_leaves(wrapped), strict=True)]
    return given[0] if len(given) == 1 else tuple(given)


def _changed(operation: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str | None, Any]:
    """Return the arguments that an operation changes, by what its schema calls their memory."""
    arguments = operation._schema.arguments
    given = dict(zip((one.name for one in arguments), args, strict=False)) | kwargs
    return {_written(one): given[one.name] for one in arguments if _written(one) and one.name in given}


def _written(value: Any) -> str | None:
    """Return what the schema of an operation calls the memory of an argument or a result that is written."""
    alias = value.alias_info
    return next(iter(alias.before_set), None) if alias is not None and alias.is_write else None
