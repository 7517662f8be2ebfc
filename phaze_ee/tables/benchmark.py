"""Tables of the costs and times of exits."""

from collections.abc import Iterable

from rich.table import Table

from phaze_ee.names import exit_title, quantity
from phaze_ee.results.benchmark import BenchmarkResults, ExitLatency, LatencyReport
from phaze_ee.results.evaluation import EvaluationResults
from phaze_ee.tables.style import empty_table, number, with_error

_TIMES = ["jets/s", "p50 (ms)", "p95 (ms)", "p99 (ms)"]


def benchmark_table(results: BenchmarkResults) -> Table:
    """Return the cost of each exit, and its accuracy if known."""
    table = empty_table(
        f"{results.project}: one jet of {results.particles} particles, {results.input_channels} input channels",
        ["MACs [M]", "of full", "weaver [M]", "parameters", "accuracy", "AUC"],
    )
    for name, exit_ in results.exits.items():
        table.add_row(
            exit_title(name),
            f"{exit_.macs / 1e6:.3f}",
            f"{100 * exit_.share_of_full:.2f} %",
            f"{exit_.flops / 1e6:.3f}",
            f"{exit_.params:,}",
            number(exit_.accuracy, ".4f"),
            number(exit_.roc_auc, ".4f"),
        )
    return table


def head_table(results: BenchmarkResults) -> Table:
    """Return the cost of each exit branch alone."""
    table = empty_table(
        f"exit branches alone: one jet of {results.particles} particles", ["thousand MACs", "of the full model"]
    )
    *_, full = results.exits.values()
    for name, exit_ in results.exits.items():
        if exit_.head_macs is not None:
            share = 100 * exit_.head_macs / full.macs
            table.add_row(exit_title(name), f"{exit_.head_macs / 1e3:,.2f}", f"{share:.3f} %")
    return table


def comparison_table(projects: Iterable[tuple[str, EvaluationResults, BenchmarkResults]]) -> Table:
    """Return the accuracy and cost of the exits of several projects, grouped by project."""
    columns = ["accuracy", "AUC", "MACs [M]", "parameters"]
    table = empty_table("Comparison of projects", columns, first="project, exit")
    for column in table.columns[1:]:
        column.no_wrap = True  # a long name folds instead
    for name, evaluation, benchmark in projects:
        table.add_row(name, style="bold")
        for exit_name, exit_ in evaluation.exits.items():
            cost = benchmark.exits[exit_name]
            table.add_row(
                f"  {exit_title(exit_name)}",
                with_error(exit_.accuracy, exit_.accuracy_error),
                number(exit_.roc_auc, ".4f"),
                f"{cost.macs / 1e6:.3f}",
                f"{cost.params:,}",
            )
    return table


def latency_table(latency: LatencyReport) -> Table:
    """Return the measured times of exits and policy; the title states the conditions."""
    table = empty_table(
        f"time a jet, {quantity(latency.threads, 'thread')}, {latency.device}, {latency.dtype}, "
        f"{latency.mean_multiplicity:.0f} particles on average",
        ["batch", *_TIMES, "spent [M]"],
    )
    for entry in [*latency.entries, *latency.chosen]:
        table.add_row(exit_title(entry.name), str(entry.batch_size), *_times(entry), f"{entry.mean_macs / 1e6:.3f}")
    return table


def curve_latency_table(latency: LatencyReport) -> Table:
    """Return the measured times of some policies of each cost-accuracy curve, in batches of one size."""
    full = latency.entries[-1]  # in the largest batches, as the curves
    table = empty_table(
        f"time a jet, some policies of the cost-accuracy curves, batches of {full.batch_size}",
        ["MACs of full", "leave early", *_TIMES],
        first="score",
    )
    for entry in latency.curves:
        shares = (entry.mean_macs / full.mean_macs, sum(entry.exit_fractions[:-1]))
        table.add_row(entry.name, *(f"{100 * share:.1f} %" for share in shares), *_times(entry))
    return table


def _times(entry: ExitLatency) -> list[str]:
    return [f"{entry.jets_per_second:,.0f}", *(f"{time:.3f}" for time in (entry.p50_ms, entry.p95_ms, entry.p99_ms))]
