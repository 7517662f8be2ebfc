"""The walks of single jets on a card, captured as CUDA graphs and replayed.

For one jet the time of a call is that of its launches. A graph launches the kernels between two exits at once.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from phaze_ee.errors import UsageError
from phaze_ee.models.folded import Folded
from phaze_ee.models.tagger import Tagger, Walk
from phaze_ee.transfer import tensors_of
from phaze_ee.types import Exit, Jets, RaggedJets

Shapes = tuple[tuple[torch.Size, torch.dtype], ...]


@dataclass(frozen=True)
class _Captured:
    """The walk of a jet with some number of particles.

    Attributes:
        jet: its tensors are what the first graph reads.
        steps: by exit, the graph that leads there from the exit before, and the answer, which the graph writes.
        kept: what the network computed once, and the graphs read.
    """

    jet: RaggedJets
    steps: list[tuple[torch.cuda.CUDAGraph, Exit]]
    kept: object


@final
class GraphWalks:
    """Walks through a tagger as :meth:`Tagger.walk`, for one jet, with graphs in place of the stages.

    Graphs have fixed sizes, so a walk is captured for each number of particles when it first comes: it takes three
    times as long as a usual one, or more. The walks share their memory, so that one must have ended before the next
    begins. They are captured again when a parameter has changed, or when the network was in training in between.

    Args:
        tagger: in evaluation mode, in float32, in a form for which the host waits for nothing, on a CUDA device.
        exits: the exits to evaluate, as for :meth:`Tagger.walk`.

    Raises:
        UsageError: the tagger is in another form, or its device has no kernels for it.
    """

    def __init__(self, tagger: Tagger, exits: Collection[int] | None) -> None:
        weight, backbone = next(tagger.parameters()), tagger.backbone
        device, kind = weight.device, weight.dtype
        if device.type != "cuda" or kind != torch.float32 or not backbone.packed_is_fast(device) or backbone.waits:
            raise UsageError(
                "graphs need ParticleNet or ParticleTransformer in their form without padding, in float32, on a CUDA "
                f"device with kernels (Triton, compute capability 8.0 or later), and this is {backbone.name} in "
                f"{str(kind).removeprefix('torch.')} on {device}: leave graphs out"
            )
        self._tagger, self._exits = tagger, exits
        self._captured: dict[Shapes, _Captured] = {}
        self._weights = self._current_weights()
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._memory = torch.cuda.graph_pool_handle()

    def __call__(self, jet: Jets) -> Walk:
        """Yield each exit; the caller may stop there. No jet can be dropped, as there is only one."""
        ragged = jet.ragged()
        if not self._weights.is_current:
            self._captured.clear()
            self._weights = self._current_weights()
        given = tensors_of(ragged.map)
        shapes = tuple((tensor.shape, tensor.dtype) for tensor in given)
        captured = self._captured.get(shapes)
        if captured is None or captured.kept is not self._tagger.backbone.kept:
            captured = self._captured[shapes] = self._capture(ragged)
        for written, tensor in zip(tensors_of(captured.jet.map), given, strict=True):
            written.copy_(tensor)
        for graph, exit_ in captured.steps:
            graph.replay()
            yield _copy(exit_)

    def _current_weights(self) -> Folded[None]:
        return Folded.of(self._tagger, lambda: None)

    def _capture(self, jet: RaggedJets) -> _Captured:
        own = jet.map(Tensor.clone)
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            list(self._walk(own))  # compiles kernels, and computes what is kept between walks
        walk = self._walk(own)
        steps: list[tuple[torch.cuda.CUDAGraph, Exit]] = []
        while not steps or not steps[-1][1].is_full_model:
            graph = torch.cuda.CUDAGraph()
            # Other threads, which prepare jets say, may use the card meanwhile.
            with torch.cuda.graph(graph, self._memory, self._stream, capture_error_mode="thread_local"):
                exit_ = next(walk)
            steps.append((graph, exit_))
        torch.cuda.current_stream().wait_stream(self._stream)
        return _Captured(own, steps, self._tagger.backbone.kept)

    def _walk(self, jet: RaggedJets) -> Walk:
        return self._tagger.walk(jet, exits=self._exits)


def _copy(exit_: Exit) -> Exit:
    """Return an answer that the next replay leaves as it is."""
    value_NR = None if exit_.value_NR is None else exit_.value_NR.clone()
    logits_NK = exit_.logits_NK.clone()
    return replace(exit_, logits_NK=logits_NK, trained_NK=logits_NK, value_NR=value_NR)
