"""What a transformer does to each token between two products: as one Triton kernel, or layer by layer in torch.

The kernel runs on CUDA devices that have kernels (:mod:`phaze_ee.kernels.availability`), for tokens of at most 4,096
channels in float32 or a half precision. It takes an activation, a norm and a scale, in this order, with a dropout after
each of the first two. It has gradients.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear
from weaver.nn.model.ParticleTransformer import LayerScale

from phaze_ee.kernels.availability import runs_kernels
from phaze_ee.models.precision import operand_type, sums_type
from phaze_ee.shapes import Float

if TYPE_CHECKING:
    from phaze_ee.kernels.activations import Activation
    from phaze_ee.kernels.token_rows import Norm, TokenWork

MOST_CHANNELS = 4096
_TYPES = (torch.float32, torch.float16, torch.bfloat16)


def between_products(
    x_TC: Float[Tensor, "T C"],
    layers: Sequence[nn.Module],
    *,
    product: nn.Linear | None = None,
    scale_H: Float[Tensor, " H"] | None = None,
    drop: Callable[[Tensor], Tensor] | None = None,
    residual_TC: Float[Tensor, "T C"] | None = None,
    kept_C: Float[Tensor, " C"] | None = None,
    norm: nn.Module | None = None,
) -> tuple[Float[Tensor, "T C"], Float[Tensor, "T C"]]:
    """Return the tokens after some layers, with their residual, and these after a norm.

    Without a norm, both are the same.

    Args:
        x_TC: tokens.
        product: what comes before the layers; None: nothing.
        layers: act on each token.
        scale_H: multiplies the channels of each of H heads, before the layers.
        drop: drops tokens in training, before the residual is added; None: none is dropped.
        residual_TC: is added; None: nothing is.
        kept_C: multiplies the channels of the residual.
        norm: of the sum.
    """
    layers = [layer for layer in layers if not _does_nothing(layer)]
    changed = bool(layers) or scale_H is not None or residual_TC is not None
    work = _work(layers, norm) if drop is None and (changed or norm is not None) and _fits(x_TC, product) else None
    if work is not None:
        if product is not None:
            x_TC, work = linear(x_TC, product.weight), work._replace(shift_C=product.bias)
        work = work._replace(scale_H=scale_H, residual_TC=residual_TC, kept_C=None if residual_TC is None else kept_C)
        found = _as_kernel(x_TC, work)
        return found[0], found[-1]
    if product is not None:
        x_TC = product(x_TC)
    if scale_H is not None:
        x_TC = (x_TC.view(len(x_TC), len(scale_H), x_TC.shape[1] // len(scale_H)) * scale_H[:, None]).flatten(1)
    for layer in layers:
        x_TC = layer(x_TC)
    if drop is not None:
        x_TC = drop(x_TC)
    if residual_TC is not None:
        x_TC = x_TC + (residual_TC if kept_C is None else kept_C * residual_TC)
    return x_TC, x_TC if norm is None else norm(x_TC)


def through_products(x_TC: Float[Tensor, "T C"], layers: nn.Module) -> Float[Tensor, "T C_out"]:
    """Apply layers on each token, some of which may be products; a sequence of them, or one."""
    between: list[nn.Module] = []
    product: nn.Linear | None = None
    for layer in layers if isinstance(layers, nn.Sequential) else [layers]:
        if isinstance(layer, nn.Linear):
            _, x_TC = between_products(x_TC, between, product=product)
            product, between = layer, []
        else:
            between.append(layer)
    return between_products(x_TC, between, product=product)[1]


def _as_kernel(x_TC: Tensor, work: "TokenWork") -> Sequence[Tensor]:
    """Return the tokens before the next norm, and after it, if there is one."""
    from phaze_ee.kernels.token_rows import run

    operand = operand_type(x_TC)
    stored = None if not work.changes else operand if work.residual_TC is None else sums_type(x_TC.dtype)
    if work.drops:
        work = work._replace(seed=int(torch.randint(2**31, ())))  # of the CPU: no wait for the device
    if not torch.is_grad_enabled():
        return [*([x_TC] if stored is None else []), *run(x_TC, work, stored, operand)]
    found: tuple[Tensor, ...] = _Trained.apply(x_TC, work, stored, operand, *_tensors(work))  # type: ignore[no-untyped-call]
    return found


@final
class _Trained(torch.autograd.Function):
    """The kernel with gradients. It also returns tokens that are not changed, and then adds both of their gradients."""

    @staticmethod
    def forward(
        ctx: Any, x_TC: Tensor, work: "TokenWork", stored: torch.dtype | None, normed: torch.dtype, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        from phaze_ee.kernels.token_rows import run

        found = run(x_TC, work, stored, normed)
        before_TC = x_TC if stored is None else found[0]
        ctx.save_for_backward(x_TC, before_TC, *tensors)
        ctx.work = _with_tensors(work, [None] * len(tensors))
        ctx.set_materialize_grads(False)
        return (*([x_TC.view_as(x_TC)] if stored is None else []), *found)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *given: Tensor | None) -> tuple[Tensor | None, ...]:
        from phaze_ee.kernels.token_gradients import token_gradients

        x_TC, before_TC, *tensors = ctx.saved_tensors
        work = _with_tensors(ctx.work, tensors)
        d_out, d_after = given[0], None if work.next is None else given[-1]
        if d_out is None and d_after is None:
            return (None,) * len(ctx.needs_input_grad)
        d_x_TC, d_residual_TC, of = token_gradients(x_TC, work, before_TC, (d_out, d_after))
        d_scale_H = None if work.scale_H is None else of["scale"].view(len(work.scale_H), -1).sum(dim=1)
        by_name = {**of, "scale": d_scale_H, "residual": d_residual_TC}
        wanted = (
            by_name.get(name) if tensor is not None else None for name, tensor in zip(_NAMES, tensors, strict=True)
        )
        return d_x_TC, None, None, None, *wanted


# Of the tensors of a work, in their order.
_NAMES = ("shift", "scale", "norm_weight", "norm_bias", "gain", "residual", "kept", "next_weight", "next_bias")


def _tensors(work: "TokenWork") -> list[Tensor | None]:
    norm, following = (((None, None) if own is None else own[:2]) for own in (work.norm, work.next))
    return [work.shift_C, work.scale_H, *norm, work.gain_C, work.residual_TC, work.kept_C, *following]


def _with_tensors(work: "TokenWork", tensors: Sequence[Tensor | None]) -> "TokenWork":
    shift_C, scale_H, weight_C, bias_C, gain_C, residual_TC, kept_C, next_weight_C, next_bias_C = tensors
    norm = None if work.norm is None else work.norm._replace(weight_C=weight_C, bias_C=bias_C)
    following = None if work.next is None else work.next._replace(weight_C=next_weight_C, bias_C=next_bias_C)
    work = work._replace(shift_C=shift_C, scale_H=scale_H, norm=norm, gain_C=gain_C, next=following)
    return work._replace(residual_TC=residual_TC, kept_C=kept_C)


def _fits(x_TC: Tensor, product: nn.Linear | None) -> bool:
    """Return whether the kernel takes tokens, after a product if there is one."""
    kind, channels = x_TC.dtype, x_TC.shape[1]
    if product is not None:
        kind, channels = operand_type(x_TC), product.out_features
    return kind in _TYPES and channels <= MOST_CHANNELS and runs_kernels(x_TC)


def _work(layers: Sequence[nn.Module], norm: nn.Module | None) -> "TokenWork | None":
    """Return what the kernel does for these layers and a norm; None if it does not have them."""
    from phaze_ee.kernels.token_rows import TokenWork

    work, left = TokenWork(), list(layers)
    if left and (activation := _activation(left[0])) is not None:
        work, left = work._replace(activation=activation), left[1:]
    if left and (drop := _drop(left[0])) is not None:
        work, left = work._replace(first_drop=drop), left[1:]
    if left and (first := _norm(left[0])) is not None:
        work, left = work._replace(norm=first), left[1:]
    if left and (drop := _drop(left[0])) is not None:
        work, left = work._replace(second_drop=drop), left[1:]
    if left and isinstance(left[0], LayerScale):
        work, left = work._replace(gain_C=left[0].gamma), left[1:]
    if norm is not None:
        work = work._replace(next=_norm(norm))
    return None if left or (norm is not None and work.next is None) else work


def _does_nothing(layer: nn.Module) -> bool:
    idle_dropout = isinstance(layer, nn.Dropout) and not (layer.training and layer.p > 0)
    return isinstance(layer, nn.Identity) or idle_dropout


def _activation(layer: nn.Module) -> "Activation | None":
    if isinstance(layer, nn.GELU) and layer.approximate == "none":
        return "gelu"
    return "relu" if isinstance(layer, nn.ReLU) else None


def _drop(layer: nn.Module) -> float | None:
    return float(layer.p) if isinstance(layer, nn.Dropout) and layer.p < 1 else None


def _norm(layer: nn.Module) -> "Norm | None":
    from phaze_ee.kernels.token_rows import Norm

    if isinstance(layer, nn.LayerNorm):
        return Norm(layer.weight, layer.bias, layer.eps, centred=True)
    if isinstance(layer, nn.RMSNorm):
        return Norm(layer.weight, None, torch.finfo(torch.float32).eps if layer.eps is None else layer.eps, False)
    return None
