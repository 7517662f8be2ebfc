"""A bound on the tensors that are made while a network is built from what a file says about it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from phaze_ee.errors import CheckpointError

# What a network may make in addition to its weights: buffers that are not stored, and scratch.
_MORE_NUMBERS, _MORE_TENSORS = 2**26, 1000
_FACTORIES = frozenset(
    {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.arange, torch.eye, torch.linspace}
)


@final
class BoundedTensors(TorchFunctionMode):
    """Refuses to make more tensors, or more numbers in them, than some weights can fill.

    A checkpoint holds all weights of its network. So a network that needs more memory is not the network of the
    checkpoint, whatever its sizes say. Nothing of that size is allocated.

    Args:
        weights: of the file; tensors that share their numbers count once.

    Raises:
        CheckpointError: inside the context, when the numbers are used up.
    """

    def __init__(self, weights: Iterable[Tensor]) -> None:
        super().__init__()
        storages = [weight.untyped_storage() for weight in weights if weight.layout is torch.strided]
        self._numbers = _MORE_NUMBERS + sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
        self._tensors = _MORE_TENSORS + 10 * len(storages)

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        keywords: Mapping[str, Any] = kwargs or {}
        if func in _FACTORIES:
            self._numbers -= func(*args, **{**keywords, "device": "meta"}).numel()
            self._tensors -= 1
            if self._numbers < 0 or self._tensors < 0:
                raise CheckpointError("it describes a larger network than its weights can fill")
        return func(*args, **keywords)
