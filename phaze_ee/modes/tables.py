"""Results as tables for a terminal of 80 columns."""

from collections.abc import Iterable, Mapping, Sequence
from math import floor, log10

from rich import box
from rich.table import Table

from phaze_ee.modes.console import console
from phaze_ee.plots.titles import class_title, exit_title, quantity
from phaze_ee.results import BenchmarkResults, EvaluationResults, ExitLatency, LatencyReport, Rejection

WIDTH = 80
_EXITS_PER_TABLE = 4
_UNKNOWN = "-"
_TIMES = ["jets/s", "p50 (ms)", "p95 (ms)", "p99 (ms)"]


def show(table: Table) -> None:
    """Print a table, at most 80 columns wide also where the output is a file or a wide window."""
    console.print(table, width=min(console.width, WIDTH))


def empty_table(title: str, columns: list[str], first: str = "exit") -> Table:
    """Return a table in the style of all modes: ``first`` at the left, numbers at the right, no rows yet."""
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        min_width=min(WIDTH, len(title)),  # a title wider than the columns would wrap
    )
    table.add_column(first, overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", overflow="fold")
    return table


def show_notes(notes: Iterable[str]) -> None:
    """Print remarks on a result, one a line."""
    for note in notes:
        console.print(f"Note: {note}", width=min(console.width, WIDTH), markup=False)


def evaluation_table(results: EvaluationResults) -> Table:
    """Return how well each exit does."""
    table = empty_table(f"{results.project}: {results.jets:,} jets", ["accuracy", "AUC", "loss", "ECE"])
    for name, exit_ in results.exits.items():
        table.add_row(
            exit_title(name),
            with_error(exit_.accuracy, exit_.accuracy_error),
            _number(exit_.roc_auc, ".4f"),
            f"{exit_.loss:.4f}",
            f"{exit_.expected_calibration_error:.4f}",
        )
    return table


def rejection_tables(results: EvaluationResults) -> list[Table]:
    """Return the background rejections, four exits to a table; no table where there are none."""
    columns = {exit_title(name): exit_.rejections for name, exit_ in results.exits.items() if exit_.rejections}
    names = list(columns)
    groups = [names[start : start + _EXITS_PER_TABLE] for start in range(0, len(names), _EXITS_PER_TABLE)]
    return [rejection_table({name: columns[name] for name in group}) for group in groups]


def rejection_table(columns: Mapping[str, Sequence[Rejection]]) -> Table:
    """Return background rejections, a column for each of several taggers; all have the same, and at least one."""
    first_column = next(iter(columns.values()))
    background = class_title(first_column[0].background)
    table = empty_table(
        f"{background} rejection at a signal efficiency, with binomial error", ["at", *columns], first="signal"
    )
    for row in zip(*columns.values(), strict=True):
        first = row[0]
        table.add_row(class_title(first.signal), f"{100 * first.signal_efficiency:g} %", *map(_rejection, row))
    if any(rejection.lower_limit is not None for column in columns.values() for rejection in column):
        table.caption = f"> : no {background} jet passes; limit at 68 % confidence"
    return table


def benchmark_table(results: BenchmarkResults) -> Table:
    """Return what each exit costs, beside how well it does where that is known."""
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
            _number(exit_.accuracy, ".4f"),
            _number(exit_.roc_auc, ".4f"),
        )
    return table


def head_table(results: BenchmarkResults) -> Table:
    """Return what the branch of each exit costs alone."""
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
    """Return how well the exits of several projects do, beside what they cost. A project's name heads its exits."""
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
                _number(exit_.roc_auc, ".4f"),
                f"{cost.macs / 1e6:.3f}",
                f"{cost.params:,}",
            )
    return table


def latency_table(latency: LatencyReport) -> Table:
    """Return measured times of exits and policy, with the conditions under which they hold in the title."""
    table = empty_table(
        f"time a jet, {quantity(latency.threads, 'thread')}, {latency.device}, {latency.dtype}, "
        f"{latency.mean_multiplicity:.0f} particles on average",
        ["batch", *_TIMES, "spent [M]"],
    )
    for entry in [*latency.entries, *latency.chosen]:
        table.add_row(exit_title(entry.name), str(entry.batch_size), *_times(entry), f"{entry.mean_macs / 1e6:.3f}")
    return table


def curve_latency_table(latency: LatencyReport) -> Table:
    """Return measured times of some policies of each cost-accuracy curve, which were all timed in equal batches."""
    full = latency.entries[-1]  # of the largest batches, as the curves
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


def with_error(value: float, error: float) -> str:
    """Return ``value ± error``, both to the decimal of the error's second significant digit."""
    if error == 0:
        return f"{value:.4g}"
    decimals = max(0, 1 - floor(log10(error)))
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"


def in_percent(share: float, error: float) -> str:
    """Return a share and its error in percent."""
    return f"{with_error(100 * share, 100 * error)} %"


def _rejection(rejection: Rejection) -> str:
    if rejection.value is not None and rejection.error is not None:
        return with_error(rejection.value, rejection.error)
    return _UNKNOWN if rejection.lower_limit is None else f"> {rejection.lower_limit:.3g}"


def _number(value: float | None, form: str) -> str:
    return _UNKNOWN if value is None else format(value, form)
