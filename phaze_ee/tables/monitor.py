"""The table and sentences of mode monitor."""

from collections import Counter

from rich.table import Table

from phaze_ee.exits.sequence import SeenLosses
from phaze_ee.names import quantity
from phaze_ee.prediction.watched import MonitorResults
from phaze_ee.tables.style import MOST_ROWS, empty_table, few

_AUDITED = {True: "more audited jet", False: "more audited and selected jet"}


def monitor_table(results: MonitorResults) -> Table:
    """Return the estimate and its limits after each file; many files are shortened."""
    totals = results.totals
    table = _empty(results, f"at {100 * (1 - results.delta):g} % always", "files")
    for look in few(range(1, len(totals) + 1)):
        if look is None:
            table.add_row("…")
        else:
            table.add_row(f"{look:,}", *_cells(results, totals[look - 1], results.delta))
    return table


def monitor_table_by(results: MonitorResults) -> Table:
    """Return the estimate and its limits now, for each value of the column; many values are shortened."""
    table = _empty(results, f"together {100 * (1 - results.delta):g} %", str(results.by))
    sequences = results.sequences
    for value in few(list(sequences)):
        if value is None:
            table.add_row("…")
        else:
            totals, delta = sequences[value]
            table.add_row(value, *_cells(results, totals[-1], delta))
    return table


def _empty(results: MonitorResults, limits: str, first: str) -> Table:
    what = "jets that change class" if results.selection is None else "selected jets that the exits reject"
    jets = "jets" if results.exits is None else "leaving"
    seen = "audited" if results.selection is None else "selected"
    title = f"Share of {what}, limit {100 * results.epsilon:g} %"
    if results.exits is not None:
        title = f"Share of leaving jets that change class, limit {100 * results.epsilon:g} %"
    return empty_table(title, [jets, seen, "found", "share", limits], first=first)


def _cells(results: MonitorResults, losses: SeenLosses, delta: float) -> list[str]:
    low, high = losses.interval(delta)
    found = losses.drawn_lost + losses.certain_lost
    # Selected jets count whether they were audited or got the full model anyway.
    seen = losses.audited if results.selection is None else losses.drawn + losses.certain
    share, limits = f"{100 * losses.share:.2f} %", f"{100 * low:.2f} to {100 * high:.2f} %"
    return [f"{losses.jets:,}", f"{seen:,}", f"{found:,}", share, limits]


def _decides(results: MonitorResults, losses: SeenLosses) -> bool:
    """Return whether more jets at the same rates would decide."""
    return (
        results.verdict == "not known yet" and results.by is None and (results.exact or losses.share < results.epsilon)
    )


def _place(results: MonitorResults) -> str:
    """Return how far the policy has moved."""
    moves, last = results.moves, len(results.steps or []) - 1
    place = f"step {results.step} of {last}{' (the full model)' if results.step == last else ''}"
    if not moves:
        return f"{place}; no move so far"
    return (
        f"{place} since file {moves[-1].files:,}; a row has all jets since the move before it, and counts those that "
        "the policy after that move loses"
    )


def _verdicts_by(results: MonitorResults) -> list[str]:
    """Return the verdicts of all values of the column; of many values, those of broken promises and counts."""
    verdicts = {value: results.verdict_of(value) for value in results.sequences}
    shown = verdicts if len(verdicts) <= MOST_ROWS else {v: own for v, own in verdicts.items() if own == "broken"}
    others = Counter(own for value, own in verdicts.items() if value not in shown)
    return [
        *(f"  {value}: {verdict}" for value, verdict in shown.items()),
        *(f"  {quantity(count, 'other value')}: {verdict}" for verdict, count in others.items()),
    ]


def monitor_sentences(results: MonitorResults) -> list[str]:
    """Return the verdict, and what it rests on."""
    sentences = [f"Verdict: {results.verdict}"]
    losses = results.totals[-1]
    moved = results.steps is not None and any(move.files == len(results.files) for move in results.moves)
    if moved and results.verdict == "not known yet":
        sentences[0] += ": no jets since the move"
    elif _decides(results, losses):
        more = losses.jets_until_known(results.epsilon, results.level)
        if more is not None:
            sentences[0] += f": about {quantity(more, _AUDITED[results.selection is None])} decide at this rate"
    if results.steps is not None:
        sentences.append(f"Policy:  {_place(results)}")
    if results.by is not None:
        sentences += _verdicts_by(results)
    if (worst := results.worst_files) is not None:
        first, last, share = worst
        where = f"file {first:,}" if first == last else f"files {first:,} to {last:,}"
        sentences.append(f"Found:   in {where} {100 * share:.2f} % are lost; of all jets {100 * losses.share:.2f} %")
        if losses.share <= results.epsilon:
            sentences.append(
                "Note:    the share of all jets is below the limit. If these files are other jets on purpose, such as "
                "one class or one sample a file, mix the files first, or watch the samples apart with --by"
            )
    if results.selection is not None:
        sentences.append(
            "Note:    without labels, signal and background among the jets that the full model selects are not told "
            "apart; if a part f of these jets is signal, at most the share divided by f of it is lost. A larger share "
            "does not show that the promise is broken"
        )
    elif not results.exact:
        sentences.append(
            "Note:    a jet that is made wrong gets another class, so the promised risk is at most this share; without "
            "labels a larger share does not show that the promise is broken"
        )
    return sentences
