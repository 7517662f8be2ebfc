"""Tables of the costs and times of exits."""

from rich.table import Table

from phaze_ee.names import FULL_MODEL, POLICY, exit_title, quantity, shares_title
from phaze_ee.results.benchmark import BenchmarkResults, ExitLatency, LatencyReport
from phaze_ee.tables.style import add_caption, empty_table, few, millions, number

_SAVES_NOTHING = "The policy is the full model: no jet leaves early, so nothing is saved"
_TIMES = ["jets/s", "p50 (ms)", "p95 (ms)", "p99 (ms)"]


def cost_table(results: BenchmarkResults) -> Table:
    """Return cost and time of each exit and of the policy; at most 12 rows. The results must have times.

    MACs are those that were spent on the timed jets. Times of one jet are medians of jets that came alone.
    """
    latency = results.latency
    assert latency is not None
    size = max(entry.batch_size for entry in latency.entries)
    rows = [entry for entry in [*latency.entries, *latency.chosen] if entry.batch_size == size]
    alone = {entry.name: entry.p50_ms for entry in [*latency.entries, *latency.chosen] if entry.batch_size == 1}
    full = next(entry for entry in rows if entry.name == FULL_MODEL)
    table = empty_table(
        f"{results.project}: {quantity(latency.threads, 'thread')}, {latency.device}, {latency.dtype}",
        ["MACs [M]", "of full", "jets/s", "of full", "ms, one jet", "accuracy"],
    )
    for entry in few(rows):
        if entry is None:
            table.add_row("…")
            continue
        known = results.exits.get(entry.name)
        table.add_row(
            exit_title(entry.name),
            millions(entry.mean_macs),
            f"{100 * entry.mean_macs / full.mean_macs:.1f} %",
            f"{entry.jets_per_second:,.0f}",
            f"{entry.jets_per_second / full.jets_per_second:.2f} ×",
            number(alone.get(entry.name), ".3f"),
            number(results.policy_accuracy if known is None else known.accuracy, ".4f"),
            style="bold" if entry.name == POLICY else None,
        )
    add_caption(table, f"MACs: mean of the timed jets, with their own particles; jets/s: batches of {size}")
    if latency.class_shares is not None:
        add_caption(table, f"Timed jets: {shares_title(latency.class_shares)} (class_prior); accuracy: all test jets")
    elif latency.chosen:
        add_caption(table, "Timed on some jets; the policy's cost on all of them is that of evaluate")
    if latency.machine is not None:
        add_caption(table, f"Machine: {latency.machine}")
    return table


def cost_sentences(results: BenchmarkResults, *, sizes: bool, leaves: bool = True) -> list[str]:
    """Return what the policy saves, and why it is slower for one jet where it is.

    Args:
        results: with the times.
        sizes: say also the size of the network with and without its exits.
        leaves: whether any jet can leave early; the policy of a failed calibration is the full model.
    """
    full = results.exits[FULL_MODEL]
    size = f"One jet padded to {results.particles} particles: {full.macs / 1e6:.2f} M MACs in the full model"
    size += f" ({full.params:,} parameters)"
    if results.with_exits is not None and results.with_exits.params != full.params:
        size += f", {results.with_exits.macs / 1e6:.2f} M with all exits ({results.with_exits.params:,})"
    saved = [*_gain(results.latency), *_alone(results.latency)] if leaves else [_SAVES_NOTHING]
    return [*saved, *([size] if sizes else [])]


def _gain(latency: LatencyReport | None) -> list[str]:
    gain = None if latency is None else latency.gain
    if gain is None:
        return []
    slower = "" if gain.speed >= 1 else "; a network as small as this gains no time"
    return [
        f"With the policy: {gain.speed:.2f} times the jets/s of the full model at {100 * gain.macs_share:.1f} % of its "
        f"MACs{slower}"
    ]


def _alone(latency: LatencyReport | None) -> list[str]:
    """Return why the policy takes longer than the full model for one jet at a time, if it does."""
    entries = [] if latency is None else [*latency.entries, *latency.chosen]
    alone = {entry.name: entry for entry in entries if entry.batch_size == 1}
    if POLICY not in alone or alone[POLICY].p50_ms <= alone[FULL_MODEL].p50_ms:
        return []
    first, full, policy = next(iter(alone.values())), alone[FULL_MODEL], alone[POLICY]
    macs = {entry.name: entry.mean_macs for entry in sorted(entries, key=lambda entry: entry.batch_size)}
    share = 100 * macs[first.name] / macs[FULL_MODEL]
    return [
        f"One jet at a time the policy takes {policy.p50_ms:.3g} ms and the full model {full.p50_ms:.3g} ms. A call "
        f"has a time of its own: {exit_title(first.name)} alone has {share:.1f} % of the MACs and "
        f"takes {first.p50_ms:.3g} ms; the policy adds heads and decisions. Jets in a batch share it"
    ]


def benchmark_table(results: BenchmarkResults) -> Table:
    """Return the cost of each exit for one padded jet, and its accuracy if known."""
    table = empty_table(
        f"{results.project}: one jet of {results.particles} particles, {results.input_channels} input channels",
        ["MACs [M]", "of full", "weaver [M]", "parameters", "accuracy", "AUC"],
    )
    for name, exit_ in results.exits.items():
        table.add_row(
            exit_title(name),
            millions(exit_.macs),
            f"{100 * exit_.share_of_full:.2f} %",
            millions(exit_.flops),
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


def latency_table(latency: LatencyReport) -> Table:
    """Return the measured times of exits and policy; the title states the conditions."""
    table = empty_table(
        f"time a jet, {quantity(latency.threads, 'thread')}, {latency.device}, {latency.dtype}, "
        f"{latency.mean_multiplicity:.0f} particles on average",
        ["batch", *_TIMES, "spent [M]"],
    )
    for entry in [*latency.entries, *latency.chosen]:
        table.add_row(exit_title(entry.name), str(entry.batch_size), *_times(entry), millions(entry.mean_macs))
    return table


def precision_table(latency: LatencyReport) -> Table:
    """Return rate and exactness of the full model in each precision of the device."""
    table = empty_table("the full model, by precision", ["jets/s", "logits differ by", "same class"], first="precision")
    for one in latency.precisions:
        same = f"{100 * one.same_class:.2f} %"
        table.add_row(one.precision, f"{one.jets_per_second:,.0f}", f"{one.largest_difference:.1e}", same)
    add_caption(table, "Largest difference of a logit, and share of equal classes, against float64")
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
