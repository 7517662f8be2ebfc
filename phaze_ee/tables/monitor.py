"""The table and sentences of mode monitor."""

from rich.table import Table

from phaze_ee.names import quantity
from phaze_ee.prediction.watched import MonitorResults
from phaze_ee.tables.style import empty_table, few


def monitor_table(results: MonitorResults) -> Table:
    """Return the estimate and its limits after each file; many files are shortened."""
    totals = results.totals
    table = empty_table(
        f"Share of jets with another class, limit {100 * results.epsilon:g} %",
        ["jets", "audited", "found", "share", f"at {100 * (1 - results.delta):g} % always"],
        first="files",
    )
    for look in few(range(1, len(totals) + 1)):
        if look is None:
            table.add_row("…")
            continue
        losses = totals[look - 1]
        low, high = losses.interval(results.delta)
        found, audited = losses.drawn_lost + losses.certain_lost, losses.drawn
        share, limits = f"{100 * losses.share:.2f} %", f"{100 * low:.2f} to {100 * high:.2f} %"
        table.add_row(f"{look:,}", f"{losses.jets:,}", f"{audited:,}", f"{found:,}", share, limits)
    return table


def monitor_sentences(results: MonitorResults) -> list[str]:
    """Return the verdict, and what it rests on."""
    sentences = [f"Verdict: {results.verdict}"]
    losses = results.totals[-1]
    if results.verdict == "not known yet" and (results.exact or losses.share < results.epsilon):
        more = losses.jets_until_known(results.epsilon, results.delta)
        if more is not None:
            sentences[0] += f": about {quantity(more, 'more audited jet')} decide at this rate"
    if not results.exact:
        sentences.append(
            "Note:    a jet that is made wrong gets another class, so the promised risk is at most this share; without "
            "labels a larger share does not show that the promise is broken"
        )
    return sentences
