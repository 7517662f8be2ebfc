"""Results of mode benchmark: what each exit costs."""

from typing import NamedTuple

from pydantic import Field

from phaze_ee.names import FULL_MODEL, quantity
from phaze_ee.results.base import ExitResultsFile, Record


class ExitBenchmark(Record):
    """The cost of leaving at one exit, with all heads up to it, for one jet of ``particles`` particles.

    The full model is counted without exit heads, unless its answer needs them. ``flops`` are multiply-accumulates
    (MACs) by weaver's counter. ``macs`` are the exact MACs of matrix products and of the neighbour search.
    ``head_macs`` are the MACs of the exit branch alone; None for the full model, or if not recorded. ``share_of_full``
    is the share of the full model's MACs.
    """

    flops: int
    flops_str: str
    params: int
    params_str: str
    macs: int
    head_macs: int | None = None
    share_of_full: float
    accuracy: float | None
    roc_auc: float | None


class NetworkCost(Record):
    """The cost of a whole network for one jet of ``particles`` particles, counted as in :class:`ExitBenchmark`."""

    flops: int
    macs: int
    params: int


class ExitLatency(Record):
    """Times per jet if all jets leave at one exit: the wall time of a batch by its number of jets, in milliseconds.

    ``mean_macs`` are the MACs per jet that were spent, with each jet's own number of particles.
    """

    name: str
    batch_size: int
    batches: int
    jets_per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    mean_macs: float


class PolicyLatency(ExitLatency):
    """Times per jet if a policy chooses the exits.

    ``exit_fractions`` are the shares of the timed jets that left at each exit, the full model last.
    """

    score: str
    thresholds: list[float]
    exit_fractions: list[float]


class Gain(NamedTuple):
    """What a policy saves: its jets/s and its MACs, as multiples of those of the full model."""

    batch_size: int
    speed: float
    macs_share: float


class LatencyReport(Record):
    """Times of all exits at all batch sizes, and the conditions of the measurement.

    ``machine`` is the name of the processor, or of the CUDA device; None in files of version 0.1.
    ``chosen`` are the times of the project's policy at all batch sizes. ``curves`` are the times of some policies of
    its cost-accuracy curves at the largest batch size.
    """

    threads: int
    device: str
    machine: str | None = None
    dtype: str
    mean_multiplicity: float
    entries: list[ExitLatency]
    chosen: list[PolicyLatency] = Field(default_factory=list)
    curves: list[PolicyLatency] = Field(default_factory=list)

    @property
    def conditions(self) -> str:
        """Where the times were measured, in words."""
        machine = self.device if self.machine is None else f"{self.machine} ({self.device})"
        return f"{machine}, {quantity(self.threads, 'thread')}, {self.dtype}"

    @property
    def gain(self) -> Gain | None:
        """What the policy saves in the largest batches; None without a policy."""
        if not self.chosen:
            return None
        policy = max(self.chosen, key=lambda entry: entry.batch_size)
        full = next(one for one in self.entries if (one.name, one.batch_size) == (FULL_MODEL, policy.batch_size))
        speed, share = policy.jets_per_second / full.jets_per_second, policy.mean_macs / full.mean_macs
        return Gain(policy.batch_size, speed, share)


class BenchmarkResults(ExitResultsFile[ExitBenchmark]):
    """``benchmark_results.json``. The data and the policy are those of the times.

    ``with_exits`` is the cost of the full model after all exits. ``flops_counter`` says how ``flops`` were counted.
    Both are None in files of version 0.1, in which the full model is counted after all exits.
    """

    project: str
    model: str
    particles: int
    input_channels: int
    unit: str
    with_exits: NetworkCost | None = None
    flops_counter: str | None = None
    latency: LatencyReport | None = None
    notes: list[str] = Field(default_factory=list)
