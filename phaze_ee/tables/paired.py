"""The table of differences to the full model on the same jets."""

from rich.table import Table

from phaze_ee.names import FULL_MODEL, POLICY, exit_title
from phaze_ee.paired import SIGNIFICANCE, PairedCounts, significant
from phaze_ee.results.evaluation import EvaluationResults, ExitEvaluation
from phaze_ee.results.policy import DynamicResults
from phaze_ee.tables.style import UNKNOWN, add_caption, empty_table, few, with_error


def paired_table(results: EvaluationResults, policy: ExitEvaluation | None) -> Table | None:
    """Return by how much each exit and the policy are better than the full model; at most 12 rows.

    Differences are in percentage points, with the error of :class:`phaze_ee.paired.PairedCounts`. A star marks those
    that are significant among all that there are, also if rows are left out. None if there is nothing to compare.
    """
    rows = {exit_title(name): exit_ for name, exit_ in results.exits.items() if name != FULL_MODEL}
    rows |= {POLICY: policy} if policy else {}
    counts = {name: _counts(exit_, results.jets) for name, exit_ in rows.items()}
    known = {name: count for name, count in counts.items() if count is not None}
    if not rows:
        return None
    stars = dict(zip(known, significant([count.p_value for count in known.values()]), strict=True))
    columns = ["difference [pp]", "", "right only here", "only in full model"]
    table = empty_table(f"{results.project}: accuracy minus that of the full model", columns)
    for name in few(list(counts)):
        count = None if name is None else counts[name]
        if name is None:
            table.add_row("…")
        elif count is None:
            table.add_row(name, UNKNOWN, "", UNKNOWN, UNKNOWN)
        else:
            star = "*" if stars[name] else ""
            style = "bold" if name == POLICY else None
            table.add_row(name, _points(count), star, f"{count.gained:,}", f"{count.lost:,}", style=style)
    add_caption(table, "paired errors: all answers are for the same jets")
    if known:
        of_many = f", Holm's correction for {len(known)}" if len(known) > 1 else ""
        found = "*:" if any(stars.values()) else "none is"
        add_caption(table, f"{found} significant at {100 * SIGNIFICANCE:g} % (McNemar's exact test{of_many})")
    return table


def paired_sentence(dynamic: DynamicResults) -> str | None:
    """Return by how much the policy is better than the full model; None: the file of results is older."""
    count = None if dynamic.mixture is None else _counts(dynamic.mixture, dynamic.jets)
    if count is None:
        return None
    found = "significant" if significant([count.p_value])[0] else "not significant"
    return (
        f"accuracy minus that of the full model, on the same jets: {_points(count)} pp "
        f"({found} at {100 * SIGNIFICANCE:g} %, McNemar)"
    )


def _counts(exit_: ExitEvaluation, jets: int) -> PairedCounts | None:
    if exit_.right_only_here is None or exit_.right_only_in_full is None:
        return None
    return PairedCounts(exit_.right_only_here, exit_.right_only_in_full, jets)


def _points(count: PairedCounts) -> str:
    sign = "+" if count.difference > 0 else ""
    return sign + with_error(100 * count.difference, 100 * count.error)
