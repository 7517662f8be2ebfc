"""Inference of a whole batch: weaver eager and compiled, and ours, each in several precisions, against float64."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.gpu_sections.counts import bytes_moved, operations
from benchmarks.gpu_sections.parts import Sample, Setting, answers
from benchmarks.gpu_sections.rows import COMPILED, EAGER, OURS, Row
from benchmarks.gpu_sections.timing import BYTES, attempt, measured, memory_in_use, products
from phaze_ee.engine.engine import Engine
from phaze_ee.machine import Precision
from phaze_ee.models.tagger import Tagger

COMPARED = 248  # jets, of which all real ones
Work = Callable[[Sample], Tensor]  # jets to logits

# The pairs that the bars need come first.
WAYS: tuple[tuple[str, Precision], ...] = (
    (OURS, "float32"), (OURS, "float16"), (OURS, "bfloat16"), (OURS, "tf32"),
    (EAGER, "float32"), (COMPILED, "bfloat16"), (EAGER, "bfloat16"), (EAGER, "tf32"),
    (COMPILED, "tf32"), (COMPILED, "float32"),
)  # fmt: skip


def rows(setting: Setting, section: str, network: str) -> Iterator[Row]:
    """Yield the rows of a network."""
    jets = setting.jets(setting.batch)
    some = jets.first(COMPARED)
    with torch.inference_mode():
        exact = answers(deepcopy(setting.weaver(network)).double(), network, some.padded.map(_double))
    for who, precision in WAYS:
        work = partial(ours, setting, network) if who == OURS else partial(rival, setting, network, who)
        yield attempt(
            section, who, precision, partial(_row, setting, section, network, who, precision, work, jets, some, exact)
        )


def ours(setting: Setting, network: str, precision: Precision, *, graphs: bool = False) -> Work:
    """Return our full model. On a CPU there are no graphs, and the call is a plain one."""
    tagger = setting.form(setting.tagger(network, ()))
    graphs = graphs and setting.device.type == "cuda"
    engine = Engine(tagger, backend="given", precision=precision, graphs=graphs)
    return lambda jets: engine(jets.ragged).logits_NK


def rival(setting: Setting, network: str, who: str, precision: Precision) -> Work:
    """Return weaver's module, eager or compiled."""
    module = compiled(setting, setting.weaver(network), who)

    def work(jets: Sample) -> Tensor:
        with products(precision, setting.device):
            return answers(module, network, jets.padded)

    return work


def compiled(setting: Setting, module: nn.Module, who: str) -> nn.Module:
    """Return a module as torch.compile makes it, if the rival is the compiled one."""
    if who == COMPILED and not setting.tiny:
        module.compile(dynamic=False)
    return module


def _row(
    setting: Setting,
    section: str,
    network: str,
    who: str,
    precision: Precision,
    make: Callable[[Precision], Work],
    jets: Sample,
    some: Sample,
    exact_NK: Tensor,
) -> Row:
    before = memory_in_use(setting.device)
    work = make(precision)
    with torch.inference_mode():
        seconds, memory = measured(partial(work, jets), setting.rounds, setting.device, before=before)
        found_NK = work(jets)[: len(some)].double()
    tagger: Tagger = setting.tagger(network, ())
    count_N = jets.ragged.particle_count_N
    return Row(
        section,
        who,
        precision,
        len(jets),
        len(jets) / seconds,
        memory,
        difference=float((found_NK - exact_NK).abs().max()),
        same_class=float((found_NK.argmax(1) == exact_NK.argmax(1)).double().mean()),
        gb_per_second=bytes_moved(tagger, count_N, BYTES[precision]) / seconds / 1e9,
        tflop_per_second=operations(tagger, count_N) / seconds / 1e12,
    )


def _double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor
