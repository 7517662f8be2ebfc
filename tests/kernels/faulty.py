"""Kernels that read or write where they should not, and one that does not."""

import triton
import triton.language as tl


@triton.jit
def doubled(given, out, count, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + place, 2 * tl.load(given + place, mask=place < count), mask=place < count)


@triton.jit
def read_outside(given, out, count, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + place, tl.load(given + place), mask=place < count)


@triton.jit
def write_outside(given, out, count, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + place - 1, tl.load(given + place, mask=place < count), mask=place < count)


@triton.jit
def write_for_another(given, out, count, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK)
    tl.store(out + place, tl.load(given + place))


@triton.jit
def write_two_numbers(given, out, count, BLOCK: tl.constexpr):
    first = tl.program_id(0) * BLOCK
    place = first + tl.arange(0, BLOCK)
    tl.store(out + first + tl.zeros([BLOCK], tl.int32), tl.load(given + place, mask=place < count), mask=place < count)


@triton.jit
def read_of_another(given, out, count, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = (place > 0) & (place < count)
    tl.store(out + place, tl.load(out + place - 1, mask=inside), mask=inside)


@triton.jit
def read_after_write(given, out, count, BLOCK: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    tl.store(out + place, tl.load(given + place, mask=inside), mask=inside)
    tl.store(given + place, tl.load(out + place, mask=inside), mask=inside)
