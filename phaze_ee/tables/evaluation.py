"""Tables of the results of mode evaluate."""

from collections.abc import Mapping, Sequence

from rich.table import Table

from phaze_ee.names import class_title, exit_title
from phaze_ee.results.evaluation import EvaluationResults, Rejection
from phaze_ee.tables.style import UNKNOWN, empty_table, number, with_error

_EXITS_PER_TABLE = 4


def evaluation_table(results: EvaluationResults) -> Table:
    """Return accuracy, AUC, loss and calibration error of each exit."""
    table = empty_table(f"{results.project}: {results.jets:,} jets", ["accuracy", "AUC", "loss", "ECE"])
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
        table.caption = f"> : no {background} jet passes; limit at 68 % confidence"
    return table


def _rejection(rejection: Rejection) -> str:
    if rejection.value is not None and rejection.error is not None:
        return with_error(rejection.value, rejection.error)
    return UNKNOWN if rejection.lower_limit is None else f"> {rejection.lower_limit:.3g}"
