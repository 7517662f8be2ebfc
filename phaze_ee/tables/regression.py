"""Tables of the targets of a regression: their cells for terminal and report, and the tables of the terminal."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from rich.table import Table

from phaze_ee.names import POLICY, exit_title
from phaze_ee.results.evaluation import ExitEvaluation, TargetEvaluation
from phaze_ee.results.seeds import OverSeeds, SeedsExit, SeedsTarget
from phaze_ee.tables.style import UNKNOWN, add_caption, empty_table, few, with_error

COLUMNS = ("bias", "resolution", "response", "its resolution")
MEANINGS = (
    "bias, resolution: median, half of the 16-84 % span of prediction - target",
    "response: the same of prediction / target; spread: half span of the target",
)

OneT = TypeVar("OneT", bound=TargetEvaluation | SeedsTarget)


class TargetRows(NamedTuple):
    """One target: a title, and for each exit, the full model and the policy its name and the texts of ``COLUMNS``."""

    title: str
    rows: list[tuple[str, ...]]


def target_rows(exits: Mapping[str, ExitEvaluation]) -> list[TargetRows]:
    """Return for each target how close the predictions of each exit, the full model and the policy are; often none."""
    return _rows({name: exit_.targets or {} for name, exit_ in exits.items()}, _cells)


def seeds_target_rows(exits: Mapping[str, SeedsExit]) -> list[TargetRows]:
    """Return the same as means over seeds, with their standard deviations."""
    return _rows({name: exit_.targets for name, exit_ in exits.items()}, _means)


def target_tables(found: Sequence[TargetRows], note: str = "") -> list[Table]:
    """Return a table for each target, of at most 12 rows; ``note`` is one more line below it."""
    return [_target_table(one, [*MEANINGS, *([note] if note else [])]) for one in found]


def _target_table(found: TargetRows, captions: Sequence[str]) -> Table:
    table = empty_table(found.title, list(COLUMNS))
    for row in few(found.rows):
        if row is None:
            table.add_row("…")
        else:
            table.add_row(*row, style="bold" if row[0] == POLICY else None)
    for line in captions:
        add_caption(table, line)
    return table


def _rows(targets: Mapping[str, Mapping[str, OneT]], cells: Callable[[OneT], Sequence[str]]) -> list[TargetRows]:
    found = []
    for name, first in next(iter(targets.values()), {}).items():
        known = {exit_: own[name] for exit_, own in targets.items() if name in own}
        title = f"target {name}: {first.jets:,} jets with a spread of {first.target_spread:.4g}"
        found.append(TargetRows(title, [(exit_title(exit_), *cells(own)) for exit_, own in known.items()]))
    return found


def _cells(own: TargetEvaluation) -> list[str]:
    return [
        with_error(own.bias, own.bias_error),
        with_error(own.resolution, own.resolution_error),
        _known(own.response, own.response_error),
        _known(own.response_resolution, own.response_resolution_error),
    ]


def _known(value: float | None, error: float | None) -> str:
    return UNKNOWN if value is None or error is None else with_error(value, error)


def _means(own: SeedsTarget) -> list[str]:
    return [_mean(one) for one in (own.bias, own.resolution, own.response, own.response_resolution)]


def _mean(one: OverSeeds | None) -> str:
    return UNKNOWN if one is None else with_error(one.mean, one.spread)
