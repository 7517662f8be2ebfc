"""Measured times of the engine: jets that leave at each exit, and by policies."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from phaze_ee.data.jet_columns import JetColumns
from phaze_ee.data.row_spans import split_into_spans
from phaze_ee.data.rows import RowReader
from phaze_ee.data.schema import DataSchema
from phaze_ee.engine.engine import Engine
from phaze_ee.engine.run import EngineResult
from phaze_ee.errors import DataError
from phaze_ee.exits.costs import prior_weights
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.machine import Precision, device_name
from phaze_ee.models.tagger import Tagger
from phaze_ee.results.benchmark import ExitLatency, LatencyReport, PolicyLatency
from phaze_ee.shapes import Int
from phaze_ee.types import Jets

BATCH_SIZES = (1, 16, 256)
_CURVE_BATCHES = 3  # of each policy of a curve; there are many policies
_CHOSEN = "policy"


def measure_latency(
    tagger: Tagger,
    jets: Jets,
    *,
    policy: ThresholdPolicy | None = None,
    curves: Sequence[ThresholdPolicy] = (),
    batch_sizes: Sequence[int] = BATCH_SIZES,
    threads: int = 1,
    seconds: float = 2.0,
    minimum_batches: int = 5,
    precision: Precision = "float32",
) -> LatencyReport:
    """Measure the times of the engine if all jets leave at each exit, for the full model, and for policies.

    The measurements alternate batch by batch, so that disturbances affect all of them. Percentiles of large batches
    come from few batches; :attr:`phaze_ee.results.benchmark.ExitLatency.batches` is their number.

    Args:
        tagger: in evaluation mode, in the form (packed or padded) to measure.
        jets: at least one jet. Batches cycle through them in order.
        policy: measured at all batch sizes.
        curves: policies measured at the largest batch size.
        batch_sizes: jets per call.
        threads: as for :class:`phaze_ee.engine.engine.Engine`.
        seconds: minimum time of each measurement, per batch size.
        minimum_batches: minimum number of batches of each measurement; at most 3 for a policy of a curve.
        precision: as for the engine.
    """
    exits = _exits(tagger, minimum_batches)
    exits += [] if policy is None else [_Timed(_CHOSEN, policy, minimum_batches)]
    points = [_Timed(point.score.name, point, min(minimum_batches, _CURVE_BATCHES)) for point in curves]
    entries = [
        entry
        for size in batch_sizes
        for entry in _measure_batch_size(
            tagger,
            [*exits, *(points if size == max(batch_sizes) else [])],
            jets,
            size,
            threads,
            seconds,
            precision,
        )
    ]
    parameter = next(tagger.parameters())
    return LatencyReport(
        threads=threads,
        device=str(parameter.device),
        machine=device_name(parameter.device),
        dtype=str(parameter.dtype).removeprefix("torch.") if precision == "float32" else precision,
        mean_multiplicity=float(jets.total_count_N.double().mean()),
        entries=[entry for entry in entries if not isinstance(entry, PolicyLatency)],
        chosen=[entry for entry in entries if isinstance(entry, PolicyLatency) and entry.name == _CHOSEN],
        curves=[entry for entry in entries if isinstance(entry, PolicyLatency) and entry.name != _CHOSEN],
    )


class _Timed(NamedTuple):
    """What is timed: a policy (``chosen``), or all jets leaving at one exit; with the minimum number of batches."""

    name: str
    policy: ThresholdPolicy | None
    batches: int
    chosen: bool = True


def _exits(tagger: Tagger, batches: int) -> list[_Timed]:
    exits = len(tagger.exit_stages)
    everywhere = [
        ThresholdPolicy("confidence", [-math.inf if index == exit_ else math.inf for index in range(exits)])
        for exit_ in range(exits)
    ]
    return [
        _Timed(name, policy, batches, chosen=False)
        for name, policy in zip(tagger.exit_names, [*everywhere, None], strict=True)
    ]


@dataclass
class _Stopwatch:
    """An engine, its minimum number of batches, and the time of each batch."""

    engine: Engine
    batches: int
    seconds: list[float] = field(default_factory=list)
    results: list[EngineResult] = field(default_factory=list)

    def run(self, jets: Jets) -> None:
        start = time.perf_counter()
        result = self.engine(jets)
        _wait(result.logits_NK)
        self.seconds.append(time.perf_counter() - start)
        self.results.append(result)

    def needs_more(self, seconds: float) -> bool:
        return len(self.seconds) < self.batches or sum(self.seconds) < seconds


def _measure_batch_size(
    tagger: Tagger, timed: Sequence[_Timed], jets: Jets, size: int, threads: int, seconds: float, precision: Precision
) -> list[ExitLatency]:
    watches = [
        _Stopwatch(Engine(tagger, one.policy, threads=threads, backend="given", precision=precision), one.batches)
        for one in timed
    ]
    for watch in watches:
        watch.engine(_batch(jets, 0, size))
    batch, waiting = 0, watches
    while waiting:
        batch_jets = _batch(jets, batch, size)
        for watch in waiting:
            watch.run(batch_jets)
        waiting = [watch for watch in waiting if watch.needs_more(seconds)]
        batch += 1
    return [_summary(one, size, watch, len(tagger.exit_names)) for one, watch in zip(timed, watches, strict=True)]


def rate_of(engine: Engine, jets: Jets, seconds: float) -> float:
    """Return the jets per second of an engine that gets all jets at once, again and again for some time."""
    watch = _Stopwatch(engine, batches=1)
    while watch.needs_more(seconds):
        watch.run(jets)
    return len(jets) * len(watch.seconds) / sum(watch.seconds)


def _batch(jets: Jets, number: int, size: int) -> Jets:
    index_N = torch.arange(number * size, (number + 1) * size, device=jets.particle_count_N.device)
    return jets.select(index_N % len(jets))


def _wait(result: torch.Tensor) -> None:
    if result.device.type == "cuda":
        torch.cuda.synchronize(result.device)


def _summary(timed: _Timed, size: int, watch: _Stopwatch, exit_count: int) -> ExitLatency:
    seconds = np.asarray(watch.seconds)
    rate = size / float(seconds.mean())
    p50, p95, p99 = np.percentile(seconds / size * 1e3, [50, 95, 99])
    latency = ExitLatency(
        name=timed.name,
        batch_size=size,
        batches=len(watch.seconds),
        jets_per_second=rate,
        jets_per_second_error=rate * float(seconds.std() / seconds.mean()) / math.sqrt(len(seconds)),
        p50_ms=float(p50),
        p95_ms=float(p95),
        p99_ms=float(p99),
        mean_macs=float(torch.cat([result.macs_N for result in watch.results]).double().mean()),
    )
    if timed.policy is None or not timed.chosen:
        return latency
    left_E = torch.cat([result.exit_index_N for result in watch.results]).bincount(minlength=exit_count)
    return PolicyLatency(
        **latency.model_dump(),
        score=timed.policy.score.name,
        thresholds=list(timed.policy.thresholds),
        exit_fractions=(left_E.double() / left_E.sum()).tolist(),
    )


_ROWS = 8  # read at a time; small, so that a few hundred jets come from many places


def timed_jets(
    schema: DataSchema, files: Sequence[Path], count: int, class_prior: Mapping[str, float] | None = None
) -> Jets:
    """Return about ``count`` jets from evenly spaced places of the files, in random order, the same on every run.

    The first jets would be a biased sample: files often have a single class, and exits depend on the class.

    Args:
        schema: the data configuration.
        files: the files.
        count: number of jets.
        class_prior: shares of the classes among the jets, which are repeated or left out for this; None: as in the
            files.

    Raises:
        DataError: a file cannot be used, no jet from these places passes the selection, or none is of a class that has
            a share.
    """
    spans = split_into_spans(schema, files, _ROWS)
    places = np.unique(np.linspace(0, len(spans) - 1, -(-count // _ROWS)).round().astype(int))
    reader = RowReader(schema, training=False, labelled=class_prior is not None)
    jets = JetColumns.concatenate([reader.read(spans[place]).jets for place in places])
    if len(jets) == 0:
        raise DataError(f"none of the jets to be timed passes the selection {reader.selection!r}; loosen it")
    index_N = np.arange(len(jets))
    if class_prior is not None:
        index_N = _drawn(jets.label_N.numpy(), schema.class_names, class_prior, count)
    return jets.take(torch.from_numpy(np.random.default_rng(0).permutation(index_N))).batch().inputs


def _drawn(
    label_N: Int[np.ndarray, " N"], class_names: Sequence[str], class_prior: Mapping[str, float], count: int
) -> npt.NDArray[np.int64]:
    """Return the indices of ``count`` jets with these shares of the classes, by systematic sampling."""
    by_class_N = np.argsort(label_N, kind="stable")
    share_N = prior_weights(label_N, class_names, class_prior)[by_class_N].cumsum() / len(label_N)
    drawn: npt.NDArray[np.int64] = by_class_N[np.searchsorted(share_N, (np.arange(count) + 0.5) / count)]
    return drawn
