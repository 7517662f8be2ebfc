"""What the card itself reaches: a copy in memory, and products of large matrices in each precision."""

from collections.abc import Iterator
from functools import partial

import torch

from benchmarks.gpu_sections.parts import Setting
from benchmarks.gpu_sections.rows import Row
from benchmarks.gpu_sections.timing import BYTES, attempt, measured, products


def rows(setting: Setting, section: str) -> Iterator[Row]:
    """Yield the ceilings of the card."""
    yield attempt(section, "copy", "float32", partial(_copy, setting, section))
    for precision in BYTES:
        yield attempt(section, "product", precision, partial(_product, setting, section, precision))


def _copy(setting: Setting, section: str) -> Row:
    source = torch.zeros(1_000 if setting.tiny else 250_000_000, device=setting.device)
    target = torch.empty_like(source)
    seconds, _ = measured(partial(target.copy_, source), setting.rounds, setting.device)
    return Row(section, "copy", "float32", gb_per_second=2 * source.nbytes / seconds / 1e9)


def _product(setting: Setting, section: str, precision: str) -> Row:
    side = 32 if setting.tiny else 8192
    matrix = torch.zeros(side, side, device=setting.device)
    name = next(one for one in BYTES if one == precision)
    half = {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(precision)
    operand = matrix if half is None else matrix.to(half)
    with products(name, setting.device):
        seconds, _ = measured(partial(torch.mm, operand, operand), setting.rounds, setting.device)
    return Row(section, "product", precision, tflop_per_second=2 * side**3 / seconds / 1e12)
