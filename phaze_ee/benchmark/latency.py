"""How long jets take to each exit, measured."""

import math
import time
from collections.abc import Sequence

import numpy as np
import torch

from phaze_ee.exits.engine import Engine
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.models.tagger import Tagger
from phaze_ee.results import ExitLatency, LatencyReport
from phaze_ee.types import Jets

BATCH_SIZES = (1, 16, 256)


def measure_latency(
    tagger: Tagger,
    jets: Jets,
    *,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    threads: int = 1,
    seconds: float = 2.0,
    minimum_batches: int = 5,
) -> LatencyReport:
    """Time the engine with all jets leaving at each exit in turn, and with the full model.

    The exits take turns batch by batch, so that a disturbance meets all of them. The percentiles of large batches rest
    on few batches: :attr:`ExitLatency.batches` says on how many.

    Args:
        tagger: in evaluation mode; the form (packed or padded) that is to be measured.
        jets: at least one jet; batches go round them in order.
        batch_sizes: jets per call.
        threads: as for :class:`phaze_ee.exits.engine.Engine`.
        seconds: how long each exit is measured at each batch size, at least.
        minimum_batches: how many batches each exit gets at least.
    """
    engines = _engines(tagger, threads)
    entries = [
        entry for size in batch_sizes for entry in _measure_batch_size(engines, jets, size, seconds, minimum_batches)
    ]
    parameter = next(tagger.parameters())
    return LatencyReport(
        threads=threads,
        device=str(parameter.device),
        dtype=str(parameter.dtype).removeprefix("torch."),
        mean_multiplicity=float(jets.particle_count_N.double().mean()),
        entries=entries,
    )


def _engines(tagger: Tagger, threads: int) -> dict[str, Engine]:
    exits = len(tagger.exit_stages)
    policies = [
        ThresholdPolicy("confidence", [-math.inf if index == exit_ else math.inf for index in range(exits)])
        for exit_ in range(exits)
    ]
    return {
        name: Engine(tagger, policy, threads=threads, backend="given")
        for name, policy in zip(tagger.exit_names, [*policies, None], strict=True)
    }


def _measure_batch_size(
    engines: dict[str, Engine], jets: Jets, size: int, seconds: float, minimum_batches: int
) -> list[ExitLatency]:
    times: dict[str, list[float]] = {name: [] for name in engines}
    macs: dict[str, list[float]] = {name: [] for name in engines}
    for engine in engines.values():
        engine(_batch(jets, 0, size))
    batch = 0
    while batch < minimum_batches or min(sum(taken) for taken in times.values()) < seconds:
        batch_jets = _batch(jets, batch, size)
        for name, engine in engines.items():
            start = time.perf_counter()
            result = engine(batch_jets)
            _wait(result.logits_NK)
            times[name].append(time.perf_counter() - start)
            macs[name].append(float(result.macs_N.double().mean()))
        batch += 1
    return [_summary(name, size, times[name], float(np.mean(macs[name]))) for name in engines]


def _batch(jets: Jets, number: int, size: int) -> Jets:
    index_N = torch.arange(number * size, (number + 1) * size, device=jets.particle_count_N.device)
    return jets.select(index_N % len(jets))


def _wait(result: torch.Tensor) -> None:
    if result.device.type == "cuda":
        torch.cuda.synchronize(result.device)


def _summary(name: str, size: int, seconds: Sequence[float], mean_macs: float) -> ExitLatency:
    p50, p95, p99 = np.percentile(np.asarray(seconds) / size * 1e3, [50, 95, 99])
    return ExitLatency(
        name=name,
        batch_size=size,
        batches=len(seconds),
        jets_per_second=size * len(seconds) / sum(seconds),
        p50_ms=float(p50),
        p95_ms=float(p95),
        p99_ms=float(p99),
        mean_macs=mean_macs,
    )
