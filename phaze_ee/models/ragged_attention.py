"""Attention inside each jet, on tokens without padding: as a Triton kernel, or in plain torch.

The kernel runs on CUDA devices that have kernels (:mod:`phaze_ee.kernels.availability`), for heads of at most 128
channels, in float32 or a half precision. Plain torch pads to the longest jet. Both have gradients.
"""

import logging
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import dropout, softmax

from phaze_ee.kernels.availability import runs_kernels
from phaze_ee.models.precision import operand_type
from phaze_ee.shapes import Float, Int

_log = logging.getLogger(__name__)

MOST_SIZE = 128  # channels of a head
_TYPES = (torch.float32, torch.float16, torch.bfloat16)


@cache
def fits_kernel(size: int) -> bool:
    """Return whether the kernel takes heads of this size; where it does not, warn once."""
    if size <= MOST_SIZE:
        return True
    _log.warning(
        "ParticleTransformer has heads of %d channels, and the kernels take at most %d: it runs on CUDA with padding",
        size,
        MOST_SIZE,
    )
    return False


class Settings(NamedTuple):
    """How tokens attend to each other.

    Attributes:
        span_6N: as in :class:`phaze_ee.kernels.attention.Attention`.
        lead: tokens at the start of each jet that have no bias, 0 or 1.
        dropout: the probability to drop a weight.
    """

    span_6N: Int[Tensor, "6 N"]
    lead: int = 0
    dropout: float = 0.0


def spans(query_N: Int[Tensor, " N"], key_N: Int[Tensor, " N"], particle_N: Int[Tensor, " N"]) -> Int[Tensor, "6 N"]:
    """Return where queries, keys and pairs of each jet begin, and how many queries and keys it has.

    Args:
        query_N: the number of queries of each jet.
        key_N: the number of keys.
        particle_N: the number of particles, between which there is a bias.
    """
    count_4N = torch.stack([query_N, key_N, particle_N.square(), query_N * key_N])
    first_4N = count_4N.cumsum(1) - count_4N
    return torch.stack([first_4N[0], query_N, first_4N[1], key_N, *first_4N[2:]])


def ragged_attention(
    parts: Sequence[Float[Tensor, "T H D"]], bias_HE: Float[Tensor, "H E"] | None, settings: Settings
) -> Float[Tensor, "Q H D"]:
    """Return softmax(q kᵀ / √D + bias) v for the tokens of each jet, as weaver's Attention has it.

    Under autocast, operands have its half precision; sums and the softmax are in float32.

    Args:
        parts: queries q (Q, H, D), keys k and values v (T, H, D); or one tensor (T, 3, H, D) of all three, whose
            gradient is one tensor too.
        bias_HE: of the ordered pairs of each jet; None: there is none.
        settings: how tokens attend to each other.
    """
    kind, size = operand_type(parts[0]), parts[0].shape[-1]
    parts = [part.to(kind) for part in parts]
    if runs_kernels(parts[0]) and kind in _TYPES and size <= MOST_SIZE:
        # The generator of the CPU: no wait for the device.
        seed = int(torch.randint(2**31, ())) if settings.dropout > 0 else 0
        out: Tensor = _Kernel.apply(bias_HE, settings, seed, *parts)  # type: ignore[no-untyped-call]
        return out
    return _in_torch(*_separate(parts), bias_HE, settings)


def _separate(parts: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    query, key, value = parts[0].unbind(1) if len(parts) == 1 else parts
    return query, key, value


@final
class _Kernel(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, bias: Tensor | None, settings: Settings, seed: int, *parts: Tensor) -> Tensor:
        from phaze_ee.kernels.attention import Attention, attend

        query, key, value = map(_rows, _separate(parts))
        bias = None if bias is None else bias.contiguous()
        out_QHD, total_HQ = attend(Attention(query, key, value, bias, *settings, seed))
        ctx.save_for_backward(query, key, value, bias, settings.span_6N, out_QHD, total_HQ)
        ctx.how, ctx.together = (settings.lead, settings.dropout, seed), len(parts) == 1
        return out_QHD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out_QHD: Tensor) -> tuple[Tensor | None, ...]:
        from phaze_ee.kernels.attention import Attention, gradients

        *operands, out_QHD, total_HQ = ctx.saved_tensors
        shapes = [operand.shape for operand in operands[:3]]
        if ctx.together:
            tokens, *others = shapes[0]
            found = [out_QHD.new_empty(tokens, 3, *others)]
        else:
            found = [out_QHD.new_empty(shape) for shape in shapes]
        attention = Attention(*operands, *ctx.how)
        d_bias = gradients(attention, out_QHD, total_HQ, d_out_QHD, _separate(found))
        return d_bias, None, None, *found


def _rows(tensor_THD: Tensor) -> Tensor:
    """Return tokens whose heads and channels are contiguous, not copied where they are."""
    _, _, channels = tensor_THD.shape
    return tensor_THD if tensor_THD.stride()[1:] == (channels, 1) else tensor_THD.contiguous()


def _in_torch(
    query_QHD: Tensor, key_THD: Tensor, value_THD: Tensor, bias_HE: Tensor | None, settings: Settings
) -> Tensor:
    query_first_N, query_N, key_first_N, key_N, pair_first_N, _ = settings.span_6N
    if not len(query_QHD):
        return query_QHD
    i_Q, j_K = (torch.arange(int(count_N.max()), device=count_N.device) for count_N in (query_N, key_N))
    real_NQ, real_NK = i_Q < query_N[:, None], j_K < key_N[:, None]
    row_NQ = (query_first_N[:, None] + i_Q).where(real_NQ, 0)
    row_NK = (key_first_N[:, None] + j_K).where(real_NK, 0)
    query, key, value = (
        rows[index].transpose(1, 2) for rows, index in ((query_QHD, row_NQ), (key_THD, row_NK), (value_THD, row_NK))
    )
    score_NHQK = query @ key.transpose(2, 3) * query_QHD.shape[2] ** -0.5
    if bias_HE is not None:
        i_NQ, j_NK = i_Q - settings.lead, j_K - settings.lead
        has_NQK = (real_NQ & (i_NQ >= 0))[:, :, None] & (real_NK & (j_NK >= 0))[:, None]
        particle_N11 = key_N[:, None, None] - settings.lead
        pair_NQK = (pair_first_N[:, None, None] + i_NQ[:, None] * particle_N11 + j_NK).where(has_NQK, 0)
        near_HNQK = bias_HE[:, pair_NQK] if bias_HE.shape[1] else bias_HE.new_zeros(len(bias_HE), *pair_NQK.shape)
        score_NHQK = score_NHQK + near_HNQK.masked_fill(~has_NQK, 0).transpose(0, 1)
    # Not −∞: where all are masked, it would give NaN in gradients.
    lowest = torch.finfo(score_NHQK.dtype).min
    weight_NHQK = softmax(score_NHQK.masked_fill(~real_NK[:, None, None], lowest), dim=-1)
    mean_NQHD = (dropout(weight_NHQK, settings.dropout) @ value).transpose(1, 2)
    jet_Q = torch.repeat_interleave(query_N, output_size=len(query_QHD))
    place_Q = torch.arange(len(jet_Q), device=jet_Q.device) - query_first_N[jet_Q]
    return mean_NQHD.flatten(0, 1).index_select(0, jet_Q * len(i_Q) + place_Q)
