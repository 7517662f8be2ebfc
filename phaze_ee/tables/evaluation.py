"""Tables of the results of mode evaluate."""

from collections.abc import Mapping, Sequence

from rich.table import Table

from phaze_ee.names import POLICY, brief, class_title, exit_title, shares_title
from phaze_ee.results.evaluation import EvaluationResults, ExitEvaluation, Rejection
from phaze_ee.results.policy import RealisedFigures
from phaze_ee.tables.style import (
    OWN_PARTICLES,
    UNKNOWN,
    add_caption,
    empty_table,
    few,
    in_percent,
    millions,
    number,
    with_error,
)

_EXITS_PER_TABLE = 4


def summary_table(
    results: EvaluationResults, policy: ExitEvaluation | None, signal: str | None, prior: RealisedFigures | None = None
) -> Table:
    """Return how accurate each exit, the full model and the policy are, and what they cost; at most 12 rows.

    Args:
        results: of the exits.
        policy: the answers by the policy; None without one.
        signal: the class whose rejection is shown; None: the first with rejections.
        prior: cost and accuracy of the policy for ``class_prior``; None without one.
    """
    rows = {exit_title(name): exit_ for name, exit_ in results.exits.items()} | ({POLICY: policy} if policy else {})
    place = _shown_rejection(results, signal)
    rejection = None if place is None else next(iter(results.exits.values())).rejections[place]
    columns = ["accuracy", "AUC", *([] if rejection is None else [_short_title(rejection)]), "MACs [M]", "of full"]
    table = empty_table(f"{results.project}: {results.jets:,} jets", columns)
    for row in few(list(rows.items())):
        if row is None:
            table.add_row("…")
            continue
        name, exit_ = row
        cells = [with_error(exit_.accuracy, exit_.accuracy_error), number(exit_.roc_auc, ".4f")]
        cells += [] if place is None else [_rejection(exit_.rejections[place])]
        cells.append(millions(exit_.mean_macs))
        cells.append(UNKNOWN if exit_.macs_share is None else f"{100 * exit_.macs_share:.1f} %")
        table.add_row(name, *cells, style="bold" if name == POLICY else None)
    add_caption(table, OWN_PARTICLES)
    if prior is not None:
        share = in_percent(prior.cost_share, prior.cost_share_error)
        add_caption(table, f"{POLICY} for class_prior ({shares_title(prior.class_shares or {})}): {share} of full")
    if rejection is not None:
        shown = [exit_.rejections[place or 0] for exit_ in results.exits.values()]
        few_pass = "; >: none passes, 68 % limit" if any(one.value is None for one in shown) else ""
        add_caption(table, f"rej.: 1 / (share of {class_title(rejection.background)} jets that pass){few_pass}")
    return table


def _shown_rejection(results: EvaluationResults, signal: str | None) -> int | None:
    rejections = next(iter(results.exits.values())).rejections
    places = {rejection.signal: place for place, rejection in enumerate(rejections)}
    return places.get(signal or "", 0 if places else None)


def _short_title(rejection: Rejection) -> str:
    """Return the title of a column of rejections, on two lines."""
    background, signal = (brief(class_title(name), 8) for name in (rejection.background, rejection.signal))
    return f"{background} rej. at\n{100 * rejection.signal_efficiency:g} % {signal}"


def evaluation_table(results: EvaluationResults) -> Table:
    """Return accuracy, AUC, cross-entropy and calibration error of each exit, without temperatures."""
    table = empty_table(f"{results.project}: {results.jets:,} jets", ["accuracy", "AUC", "CE (nats)", "ECE"])
    for name, exit_ in results.exits.items():
        table.add_row(
            exit_title(name),
            with_error(exit_.accuracy, exit_.accuracy_error),
            number(exit_.roc_auc, ".4f"),
            f"{exit_.loss:.4f}",
            f"{exit_.expected_calibration_error:.4f}",
        )
    return table


def rejection_tables(results: EvaluationResults) -> list[Table]:
    """Return the background rejections, with four exits per table; no tables without rejections."""
    columns = {exit_title(name): exit_.rejections for name, exit_ in results.exits.items() if exit_.rejections}
    names = list(columns)
    groups = [names[start : start + _EXITS_PER_TABLE] for start in range(0, len(names), _EXITS_PER_TABLE)]
    return [rejection_table({name: columns[name] for name in group}) for group in groups]


def rejection_table(columns: Mapping[str, Sequence[Rejection]]) -> Table:
    """Return background rejections with one column per tagger; all columns must have the same signals, at least one."""
    first_column = next(iter(columns.values()))
    background = class_title(first_column[0].background)
    table = empty_table(
        f"{background} rejection at a signal efficiency, with binomial error", ["at", *columns], first="signal"
    )
    for row in zip(*columns.values(), strict=True):
        first = row[0]
        table.add_row(class_title(first.signal), f"{100 * first.signal_efficiency:g} %", *map(_rejection, row))
    if any(rejection.lower_limit is not None for column in columns.values() for rejection in column):
        add_caption(table, f"> : no {background} jet passes; limit at 68 % confidence")
    return table


def _rejection(rejection: Rejection) -> str:
    if rejection.value is not None and rejection.error is not None:
        return with_error(rejection.value, rejection.error)
    return UNKNOWN if rejection.lower_limit is None else f"> {rejection.lower_limit:.3g}"
