"""How much of the time of a call is launches of kernels: the full model as it is, and replayed as a CUDA graph.

A graph has fixed sizes, so this one is of the very jets that it is captured with: what a graph could gain at most,
against larger chunks. On a CPU there are no graphs, and the second row is a plain call.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch

from benchmarks.gpu_sections.parts import Sample, Setting
from benchmarks.gpu_sections.rows import Row
from benchmarks.gpu_sections.timing import WARM_UP, attempt, measured, memory_in_use, products
from phaze_ee.machine import Precision

_SIZES = {"ParticleNet": (1, 16, 256, 2048, 8192), "ParT": (1,)}  # the pairs of more jets are counted on the host
_PRECISION: Precision = "float16"


def rows(setting: Setting, section: str) -> Iterator[Row]:
    """Yield the rates of the full model for several sizes of a call."""
    precision: Precision = _PRECISION if setting.device.type == "cuda" else "float32"
    for network, sizes in _SIZES.items():
        for size in sizes[:1] if setting.tiny else sizes:
            jets = setting.jets(size)
            for how, prepare in (("launched", _as_it_is), ("graph", _captured)):
                who = f"{network}, {how}"
                measure = partial(_row, setting, section, who, precision, jets, network, prepare)
                yield attempt(section, who, precision, measure)


def _row(
    setting: Setting,
    section: str,
    who: str,
    precision: Precision,
    jets: Sample,
    network: str,
    prepare: Callable[[Callable[[], object]], Callable[[], object]],
) -> Row:
    before = memory_in_use(setting.device)
    tagger = setting.form(setting.tagger(network, ()))
    with torch.inference_mode(), products(precision, setting.device):
        work = prepare(partial(tagger, jets.ragged))
        seconds, memory = measured(work, setting.rounds, setting.device, before=before)
    return Row(section, who, precision, len(jets), len(jets) / seconds, memory)


def _as_it_is(work: Callable[[], object]) -> Callable[[], object]:
    return work


def _captured(work: Callable[[], object]) -> Callable[[], object]:
    if not torch.cuda.is_available():
        return work
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay
