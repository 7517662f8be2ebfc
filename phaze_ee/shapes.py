"""jaxtyping's annotations of shapes, for type checkers and readers: ``Float[Tensor, "N K"]`` is a tensor to Python.

So jaxtyping need not be installed where a tagger only runs.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
else:

    class _Shaped:
        def __class_getitem__(cls, array_and_shape: tuple[Any, str]) -> Any:
            return array_and_shape[0]

    Bool = Float = Int = _Shaped

__all__ = ["Bool", "Float", "Int"]
