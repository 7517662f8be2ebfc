"""Attention inside each jet with a bias from pairs of tokens, on jets of any length without padding.

A program takes one head of one jet and walks over its tokens, a tile at a time. Weights are never stored: the softmax
runs over the tiles (arXiv:2205.14135), and the backward pass computes the weights again. Nothing is added atomically,
so all runs give the same numbers. The mask of dropout is a function of a seed, the pair and the head.
"""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from phaze_ee.kernels.dropout import kept
from phaze_ee.kernels.edge_forward import TYPES, product_of, width_of
from phaze_ee.kernels.rounding import FUSED
from phaze_ee.shapes import Float, Int

# Tokens of a tile; fewer where rows are longer than 256 bytes, so that it fits into 99 kB of shared memory.
_TILE, _SMALL_TILE, _LONG_ROW = 32, 16, 256
_HALF_WARPS, _WARPS = 2, 4  # of a program: in float32, gradients with fewer warps do not stay in registers


class Attention(NamedTuple):
    """The operands of an attention of Q queries to T keys, with H heads of D channels.

    Attributes:
        query_QHD: queries, jet after jet; heads and channels are contiguous.
        key_THD: keys, jet after jet.
        value_THD: values, in the order of the keys.
        bias_HE: added to the scores of the n² ordered pairs of each jet, jet after jet; None: no bias.
        span_6N: of each jet its first query, queries, first key, keys, first pair in the bias, and pairs of a query
            and a key in earlier jets.
        lead: tokens at the start of each jet that have no bias, 0 or 1.
        dropout: the probability to drop a weight.
        seed: of the mask of dropout.
    """

    query_QHD: Float[Tensor, "Q H D"]
    key_THD: Float[Tensor, "T H D"]
    value_THD: Float[Tensor, "T H D"]
    bias_HE: Float[Tensor, "H E"] | None
    span_6N: Int[Tensor, "6 N"]
    lead: int = 0
    dropout: float = 0.0
    seed: int = 0

    @property
    def sums(self) -> torch.dtype:
        """The type of sums and of the softmax: float64 for operands in float64, else float32."""
        return torch.float64 if self.query_QHD.dtype == torch.float64 else torch.float32

    @property
    def programs(self) -> tuple[int, int]:
        """Jets and heads."""
        return self.span_6N.shape[1], self.query_QHD.shape[1]

    def arguments(self) -> dict[str, Any]:
        """Return what the kernels need to compute scores."""
        query_QHD, dtype = self.query_QHD, self.query_QHD.dtype
        width = width_of(query_QHD.shape[2])
        return {
            "query": query_QHD,
            "key": self.key_THD,
            "value": self.value_THD,
            "bias": query_QHD if self.bias_HE is None else self.bias_HE,
            "span": self.span_6N,
            "query_row": query_QHD.stride(0),
            "key_row": self.key_THD.stride(0),
            "value_row": self.value_THD.stride(0),
            "queries": len(query_QHD),
            "pairs": 0 if self.bias_HE is None else self.bias_HE.shape[1],
            "seed": self.seed,
            "HEADS": query_QHD.shape[1],
            "SIZE": query_QHD.shape[2],
            "WIDTH": width,
            "LEAD": self.lead,
            "BIASED": self.bias_HE is not None,
            "DROPOUT": self.dropout,
            "SCALE": query_QHD.shape[2] ** -0.5,
            "TILE": _SMALL_TILE if width * dtype.itemsize > _LONG_ROW else _TILE,
            "TYPE": TYPES[dtype],
            "SUM": TYPES[self.sums],
            "PRODUCT": product_of(dtype),
            "num_warps": _HALF_WARPS if dtype.itemsize == 2 else _WARPS,
            **FUSED,
        }


def attend(attention: Attention) -> tuple[Float[Tensor, "Q H D"], Float[Tensor, "H Q"]]:
    """Return the weighted means of the values, and the logarithms of the sums of the exponentials of the scores."""
    queries, heads, _ = attention.query_QHD.shape
    out_QHD = torch.empty_like(attention.query_QHD, memory_format=torch.contiguous_format)
    total_HQ = out_QHD.new_empty(heads, queries, dtype=attention.sums)
    if queries:
        launch: Any = _attend[attention.programs]
        launch(out=out_QHD, total=total_HQ, **attention.arguments())
    return out_QHD, total_HQ


def gradients(
    attention: Attention,
    out_QHD: Tensor,
    total_HQ: Tensor,
    d_out_QHD: Tensor,
    found: tuple[Float[Tensor, "Q H D"], Float[Tensor, "T H D"], Float[Tensor, "T H D"]],
) -> Float[Tensor, "H E"] | None:
    """Compute the gradients of queries, keys and values; return that of the bias, None where there is no bias.

    Args:
        attention: the operands.
        out_QHD: the result of :func:`attend`.
        total_HQ: the logarithms that it returned.
        d_out_QHD: the gradient of the result.
        found: the three gradients are written here; their tokens lie equally far from each other.
    """
    d_query, d_key, d_value = found
    d_bias = None if attention.bias_HE is None else torch.empty_like(attention.bias_HE)
    if len(out_QHD):
        launch: Any = _gradients[attention.programs]
        launch(
            out=out_QHD,
            total=total_HQ,
            d_out=d_out_QHD.contiguous(),
            d_query=d_query,
            d_key=d_key,
            d_value=d_value,
            d_bias=d_query if d_bias is None else d_bias,
            gradient_row=d_query.stride(0),
            **attention.arguments(),
        )
    return d_bias


@triton.jit
def _load(x, row, real, stride, head, SIZE: tl.constexpr, WIDTH: tl.constexpr):
    column = tl.arange(0, WIDTH)
    place = row[:, None] * stride + head * SIZE + column[None, :]
    return tl.load(x + place, mask=real[:, None] & (column < SIZE)[None, :], other=0.0)


@triton.jit
def _store(x, values, row, real, stride, head, SIZE: tl.constexpr, WIDTH: tl.constexpr):
    column = tl.arange(0, WIDTH)
    place = row[:, None] * stride + head * SIZE + column[None, :]
    tl.store(x + place, values.to(x.dtype.element_ty), mask=real[:, None] & (column < SIZE)[None, :])


@triton.jit
def _span(span):
    """Return first query, queries, first key, keys, first pair and first draw of a jet."""
    jet, jets = tl.program_id(0), tl.num_programs(0)
    return (
        tl.load(span + jet),
        tl.load(span + jets + jet),
        tl.load(span + 2 * jets + jet),
        tl.load(span + 3 * jets + jet),
        tl.load(span + 4 * jets + jet),
        tl.load(span + 5 * jets + jet),
    )


@triton.jit
def _pair(i, j, query_count, key_count, pair_first, pairs, LEAD: tl.constexpr):
    """Return the places of pairs in the bias, and whether they have one."""
    has = ((i >= LEAD) & (i < query_count))[:, None] & ((j >= LEAD) & (j < key_count))[None, :]
    place = (i - LEAD)[:, None] * (key_count - LEAD) + (j - LEAD)[None, :]
    return tl.program_id(1).to(tl.int64) * pairs + pair_first + place, has


@triton.jit
def _scores(
    own, other, bias, i, j, query_count, key_count, pair_first, pairs,
    LEAD: tl.constexpr, BIASED: tl.constexpr, SCALE: tl.constexpr, SUM: tl.constexpr, PRODUCT: tl.constexpr,
):  # fmt: skip
    score = tl.dot(own, tl.trans(other), input_precision=PRODUCT, out_dtype=SUM) * SCALE
    if BIASED:
        place, has = _pair(i, j, query_count, key_count, pair_first, pairs, LEAD)
        score += tl.load(bias + place, mask=has, other=0.0).to(SUM)
    return tl.where((j < key_count)[None, :], score, float("-inf"))


@triton.jit
def _kept(seed, i, j, key_count, draw_first, HEADS: tl.constexpr, DROPOUT: tl.constexpr):
    """Return factors of the weights: zero where one is dropped."""
    draw = (draw_first + i[:, None] * key_count + j[None, :]) * HEADS + tl.program_id(1)
    return kept(seed, draw, DROPOUT)


@triton.jit(do_not_specialize=["seed"])
def _attend(
    query, key, value, bias, span, out, total, query_row, key_row, value_row, queries, pairs, seed,
    HEADS: tl.constexpr, SIZE: tl.constexpr, WIDTH: tl.constexpr, LEAD: tl.constexpr, BIASED: tl.constexpr,
    DROPOUT: tl.constexpr, SCALE: tl.constexpr, TILE: tl.constexpr, TYPE: tl.constexpr, SUM: tl.constexpr,
    PRODUCT: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(1)
    query_first, query_count, key_first, key_count, pair_first, draw_first = _span(span)
    for start in range(0, query_count, TILE):
        i = start + tl.arange(0, TILE)
        own = _load(query, query_first + i, i < query_count, query_row, head, SIZE, WIDTH)
        highest = tl.full([TILE], float("-inf"), SUM)
        weight = tl.zeros([TILE], SUM)
        mean = tl.zeros([TILE, WIDTH], SUM)
        for begin in range(0, key_count, TILE):
            j = begin + tl.arange(0, TILE)
            other = _load(key, key_first + j, j < key_count, key_row, head, SIZE, WIDTH)
            score = _scores(
                own, other, bias, i, j, query_count, key_count, pair_first, pairs, LEAD, BIASED, SCALE, SUM, PRODUCT
            )
            higher = tl.maximum(highest, tl.max(score, axis=1))
            shrink = tl.exp(highest - higher)
            part = tl.exp(score - higher[:, None])
            weight = weight * shrink + tl.sum(part, axis=1)
            if DROPOUT > 0:
                part *= _kept(seed, i, j, key_count, draw_first, HEADS, DROPOUT)
            content = _load(value, key_first + j, j < key_count, value_row, head, SIZE, WIDTH)
            mean = mean * shrink[:, None] + tl.dot(part.to(TYPE), content, input_precision=PRODUCT, out_dtype=SUM)
            highest = higher
        _store(out, mean / weight[:, None], query_first + i, i < query_count, HEADS * SIZE, head, SIZE, WIDTH)
        logarithm = highest + tl.log(weight)
        tl.store(total + head.to(tl.int64) * queries + query_first + i, logarithm, mask=i < query_count)


@triton.jit
def _score_gradients(
    own, other, content, given, score, mean_gradient, total_gradient, i, j, query_count, key_count, draw_first, seed,
    HEADS: tl.constexpr, DROPOUT: tl.constexpr, SUM: tl.constexpr, PRODUCT: tl.constexpr,
):  # fmt: skip
    """Return the gradients of scores, and the weights after dropout."""
    real = (i < query_count)[:, None] & (j < key_count)[None, :]
    weight = tl.where(real, tl.exp(score - total_gradient[:, None]), 0.0)
    d_weight = tl.dot(given, tl.trans(content), input_precision=PRODUCT, out_dtype=SUM)
    dropped = weight
    if DROPOUT > 0:
        factor = _kept(seed, i, j, key_count, draw_first, HEADS, DROPOUT)
        d_weight *= factor
        dropped *= factor
    return weight * (d_weight - mean_gradient[:, None]), dropped


@triton.jit
def _queries(
    query, out, d_out, total, query_first, query_count, start, query_row, queries,
    HEADS: tl.constexpr, SIZE: tl.constexpr, WIDTH: tl.constexpr, TILE: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """Return a tile of queries: places, numbers, gradients of means, their products with the means, logarithms."""
    head = tl.program_id(1)
    i = start + tl.arange(0, TILE)
    real = i < query_count
    own = _load(query, query_first + i, real, query_row, head, SIZE, WIDTH)
    given = _load(d_out, query_first + i, real, HEADS * SIZE, head, SIZE, WIDTH)
    mean = _load(out, query_first + i, real, HEADS * SIZE, head, SIZE, WIDTH)
    logarithm = tl.load(total + head.to(tl.int64) * queries + query_first + i, mask=real, other=0.0)
    return i, own, given, tl.sum(given.to(SUM) * mean.to(SUM), axis=1), logarithm


@triton.jit(do_not_specialize=["seed"])
def _gradients(
    query, key, value, bias, span, out, total, d_out, d_query, d_key, d_value, d_bias, gradient_row,
    query_row, key_row, value_row, queries, pairs, seed,
    HEADS: tl.constexpr, SIZE: tl.constexpr, WIDTH: tl.constexpr, LEAD: tl.constexpr, BIASED: tl.constexpr,
    DROPOUT: tl.constexpr, SCALE: tl.constexpr, TILE: tl.constexpr, TYPE: tl.constexpr, SUM: tl.constexpr,
    PRODUCT: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(1)
    query_first, query_count, key_first, key_count, pair_first, draw_first = _span(span)
    for begin in range(0, key_count, TILE):
        j = begin + tl.arange(0, TILE)
        other = _load(key, key_first + j, j < key_count, key_row, head, SIZE, WIDTH)
        content = _load(value, key_first + j, j < key_count, value_row, head, SIZE, WIDTH)
        to_key = tl.zeros([TILE, WIDTH], SUM)
        to_value = tl.zeros([TILE, WIDTH], SUM)
        for start in range(0, query_count, TILE):
            i, own, given, product, logarithm = _queries(
                query, out, d_out, total, query_first, query_count, start, query_row, queries,
                HEADS, SIZE, WIDTH, TILE, SUM,
            )  # fmt: skip
            score = _scores(
                own, other, bias, i, j, query_count, key_count, pair_first, pairs, LEAD, BIASED, SCALE, SUM, PRODUCT
            )
            d_score, dropped = _score_gradients(
                own, other, content, given, score, product, logarithm, i, j, query_count, key_count, draw_first, seed,
                HEADS, DROPOUT, SUM, PRODUCT,
            )  # fmt: skip
            to_value += tl.dot(tl.trans(dropped.to(TYPE)), given, input_precision=PRODUCT, out_dtype=SUM)
            to_key += tl.dot(tl.trans(d_score.to(TYPE)), own, input_precision=PRODUCT, out_dtype=SUM) * SCALE
            if BIASED:
                place, has = _pair(i, j, query_count, key_count, pair_first, pairs, LEAD)
                tl.store(d_bias + place, d_score.to(d_bias.dtype.element_ty), mask=has)
        _store(d_key, to_key, key_first + j, j < key_count, gradient_row, head, SIZE, WIDTH)
        _store(d_value, to_value, key_first + j, j < key_count, gradient_row, head, SIZE, WIDTH)
    for start in range(0, query_count, TILE):
        i, own, given, product, logarithm = _queries(
            query, out, d_out, total, query_first, query_count, start, query_row, queries,
            HEADS, SIZE, WIDTH, TILE, SUM,
        )  # fmt: skip
        to_query = tl.zeros([TILE, WIDTH], SUM)
        for begin in range(0, key_count, TILE):
            j = begin + tl.arange(0, TILE)
            other = _load(key, key_first + j, j < key_count, key_row, head, SIZE, WIDTH)
            content = _load(value, key_first + j, j < key_count, value_row, head, SIZE, WIDTH)
            score = _scores(
                own, other, bias, i, j, query_count, key_count, pair_first, pairs, LEAD, BIASED, SCALE, SUM, PRODUCT
            )
            d_score, _ = _score_gradients(
                own, other, content, given, score, product, logarithm, i, j, query_count, key_count, draw_first, seed,
                HEADS, DROPOUT, SUM, PRODUCT,
            )  # fmt: skip
            to_query += tl.dot(d_score.to(TYPE), other, input_precision=PRODUCT, out_dtype=SUM) * SCALE
        _store(d_query, to_query, query_first + i, i < query_count, gradient_row, head, SIZE, WIDTH)
