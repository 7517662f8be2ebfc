"""Tables of means over seeds, and of differences on the same jets."""

from rich.table import Table

from phaze_ee.names import POLICY, brief, exit_title, quantity
from phaze_ee.paired import SIGNIFICANCE
from phaze_ee.results.differences import ComparedAnswer, Contrast, Differences
from phaze_ee.results.seeds import OverSeeds, SeedsResults
from phaze_ee.tables.style import OWN_PARTICLES, UNKNOWN, add_caption, empty_table, few, with_error

OF_SEEDS = "±: standard deviation over seeds; what is below it is not claimed"
_LONGEST_NAME = 16


def seeds_table(results: SeedsResults) -> Table:
    """Return accuracy, AUC and cost of each exit and the policy as means over seeds; at most 12 rows."""
    count = sum(run.state == "evaluated" for run in results.runs)
    timed = any(exit_.jets_per_second is not None for exit_ in results.exits.values())
    columns = ["accuracy", "AUC", *(["1,000 jets/s"] if timed else []), "of full"]
    table = empty_table(f"{results.project}: mean of {quantity(count, 'seed')}, {results.jets:,} jets", columns)
    for name in few(list(results.exits)):
        if name is None:
            table.add_row("…")
            continue
        exit_ = results.exits[name]
        cells = [_cell(exit_.accuracy), _cell(exit_.roc_auc)]
        cells += [_cell(exit_.jets_per_second, thousands=True)] if timed else []
        table.add_row(
            exit_title(name), *cells, _cell(exit_.macs_share, percent=True), style="bold" if name == POLICY else None
        )
    add_caption(table, OF_SEEDS)
    add_caption(table, OWN_PARTICLES)
    return table


def differences_table(differences: Differences, title: str, first: str = "exit") -> Table:
    """Return the accuracies beside that of the reference, with errors over seeds and over jets; at most 12 rows.

    Differences are in percentage points. A star marks those that are significant among all that there are.
    """
    seeded = any(answer.spread is not None for answer in differences.answers)
    errors = ["±seeds", "±jets"] if seeded else ["±jets"]
    table = empty_table(title, ["accuracy", *errors, "difference\n[pp]", *errors, ""], first)
    for answer in few(differences.answers):
        if answer is None:
            table.add_row("…")
        else:
            table.add_row(brief(answer.name, _LONGEST_NAME), *_cells(answer, seeded=seeded))
    for line in _captions(differences, seeded=seeded):
        add_caption(table, line)
    return table


def _cells(answer: ComparedAnswer, *, seeded: bool) -> list[str]:
    own = [answer.spread, answer.accuracy_error] if seeded else [answer.accuracy_error]
    cells = [f"{answer.accuracy:.4f}", *(UNKNOWN if error is None else f"{error:.4f}" for error in own)]
    found = answer.difference
    if found is None:
        return cells
    errors = [found.spread, found.jets_error] if seeded else [found.jets_error]
    shown = (UNKNOWN if error is None else f"{100 * error:.2f}" for error in errors)
    return [*cells, f"{100 * found.value:+.2f}", *shown, _mark(found)]


def _mark(found: Contrast) -> str:
    return f"{'*' if found.significant else ''}{'' if found.paired else 'u'}"


def _captions(differences: Differences, *, seeded: bool) -> list[str]:
    found = differences.contrasts
    lines = [f"difference: to {brief(differences.reference, 40)}"]
    unpaired = sum(not one.paired for one in found)
    if unpaired < len(found):
        lines[0] += "; paired: the same jets"
    if unpaired:
        lines.append("u: not known to be the same jets, so the error is that of independent accuracies")
    if seeded:
        lines.append("±seeds: standard deviation over seeds; a difference below it is not claimed")
    if found:
        of_many = f", Holm's correction for {len(found)}" if len(found) > 1 else ""
        by = "seeds and jets" if seeded else "McNemar's exact test" if not unpaired else "jets"
        star = "*:" if any(one.significant for one in found) else "none is"
        lines.append(f"{star} significant at {100 * SIGNIFICANCE:g} % ({by}{of_many})")
    return lines


def _cell(quantity: OverSeeds | None, *, percent: bool = False, thousands: bool = False) -> str:
    if quantity is None:
        return UNKNOWN
    if thousands:
        return with_error(quantity.mean / 1000, quantity.spread / 1000)
    if percent:
        return f"{with_error(100 * quantity.mean, 100 * quantity.spread)} %"
    return with_error(quantity.mean, quantity.spread)
