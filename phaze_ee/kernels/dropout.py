"""The mask of dropout: a function of a seed and the place of a number, the same in both directions."""

import triton
import triton.language as tl

# Of Philox 4×32: the fewest that pass all statistical tests of its authors (Salmon et al., SC 2011), 7 of Triton's 10.
_ROUNDS: tl.constexpr = tl.constexpr(7)


@triton.jit
def kept(seed, place, DROPOUT: tl.constexpr):
    """Return factors of numbers: zero where one is dropped. Places are counted modulo 2³²."""
    return tl.where(tl.rand(seed, place.to(tl.uint32), _ROUNDS) >= DROPOUT, 1.0 / (1.0 - DROPOUT), 0.0)
