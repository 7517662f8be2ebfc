"""The bias of all pairs of particles alone, as kernels and in plain torch, against the bytes that it has to move.

A call has what a walk has: the indices of pairs too, and one wait for their number. On a CPU, both are plain torch.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.gpu_sections.counts import pair_bytes, pair_operations
from benchmarks.gpu_sections.parts import Sample, Setting
from benchmarks.gpu_sections.rows import Row
from benchmarks.gpu_sections.timing import BYTES, attempt, measured, memory_in_use, products
from phaze_ee.machine import Precision
from phaze_ee.models import fused_pairs
from phaze_ee.models.folded_pairs import FoldedPairs
from phaze_ee.models.pair_bias import pair_bias
from phaze_ee.models.states import JetLayout, PackedState

_PRECISIONS: tuple[Precision, ...] = ("bfloat16", "float32", "tf32")


def rows(setting: Setting, section: str) -> Iterator[Row]:
    """Yield the rates of Particle Transformer's pairs, in inference and for a step of training."""
    jets = setting.jets(setting.batch)
    for precision in _PRECISIONS:
        for training in (False, True):
            for kernels in (True, False):
                who = f"{'kernels' if kernels else 'torch'}, {'training' if training else 'inference'}"
                measure = partial(_row, setting, section, who, precision, jets, kernels=kernels, training=training)
                yield attempt(section, who, precision, measure)


def _row(
    setting: Setting, section: str, who: str, precision: Precision, jets: Sample, *, kernels: bool, training: bool
) -> Row:
    before = memory_in_use(setting.device)
    module: Any = setting.weaver("ParT").train(training)
    with products(precision, setting.device), _allowed(kernels), torch.inference_mode(not training):
        work = _work(module.pair_embed, jets, training=training)
        seconds, memory = measured(work, setting.rounds, setting.device, before=before)
    count_N = jets.ragged.particle_count_N
    moved = pair_bytes(module.pair_embed, count_N, BYTES[precision], training=training)
    done = pair_operations(module.pair_embed, count_N, training=training)
    return Row(
        section,
        who,
        precision,
        len(jets),
        len(jets) / seconds,
        memory,
        gb_per_second=moved / seconds / 1e9,
        tflop_per_second=done / seconds / 1e12,
    )


def _allowed(kernels: bool) -> AbstractContextManager[object]:
    """Return a context in which pairs run in plain torch, if kernels are not allowed."""
    return nullcontext() if kernels else patch.object(fused_pairs, "runs_kernels", lambda tensor: False)


def _work(embed: Any, jets: Sample, *, training: bool) -> Callable[[], None]:
    ragged = jets.ragged
    assert ragged.vectors_V4 is not None
    state = PackedState(ragged.features_VC, ragged.vectors_V4, JetLayout(ragged.particle_count_N), 0)
    folded = FoldedPairs()

    def work() -> None:
        embed.zero_grad()
        bias_HE = pair_bias(embed, state, folded)
        if training:
            bias_HE.backward(torch.ones_like(bias_HE))  # type: ignore[no-untyped-call]

    return work
