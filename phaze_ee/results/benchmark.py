"""Results of mode benchmark: what each exit costs."""

from pydantic import Field

from phaze_ee.results.base import ExitResultsFile, Record


class ExitBenchmark(Record):
    """What it costs to leave at one exit, heads visited on the way included.

    ``flops`` are multiply-accumulates (MACs) by weaver's counter, the key and unit of the contract; ``macs`` are exact
    multiply-accumulates of matrix products, the neighbour search included. Both for one jet of ``particles`` particles,
    as are ``head_macs``, those of the exit branch alone (None: not recorded, or the full model).
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


class ExitLatency(Record):
    """Times when all jets leave at one exit: wall time of a batch divided by its number of jets, in milliseconds.

    ``mean_macs`` are the multiply-accumulates per jet as really spent, with each jet's own number of particles.
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
    """Times when a policy chooses the exits.

    ``exit_fractions`` are the shares of the timed jets that left at each exit, the full model last.
    """

    score: str
    thresholds: list[float]
    exit_fractions: list[float]


class LatencyReport(Record):
    """Times of all exits at all batch sizes, and the conditions under which they were taken.

    ``chosen`` are those of the project's policy, at all batch sizes too; ``curves`` those of some policies of its
    cost-accuracy curves, at the largest.
    """

    threads: int
    device: str
    dtype: str
    mean_multiplicity: float
    entries: list[ExitLatency]
    chosen: list[PolicyLatency] = Field(default_factory=list)
    curves: list[PolicyLatency] = Field(default_factory=list)


class BenchmarkResults(ExitResultsFile[ExitBenchmark]):
    """``benchmark_results.json``. ``model_hash`` as in :class:`EvaluationResults`."""

    project: str
    model: str
    model_hash: str | None = None
    particles: int
    input_channels: int
    unit: str
    latency: LatencyReport | None = None
    notes: list[str] = Field(default_factory=list)
