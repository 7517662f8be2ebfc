"""The table of a sweep."""

from rich.table import Table

from phaze_ee.names import short
from phaze_ee.results.sweep import SweepResults, SweepTrial
from phaze_ee.tables.style import empty_table

_LONGEST_HEADER = 12


def sweep_table(results: SweepResults) -> Table:
    """Return the trials, the best first; the errors of failed trials are in the caption."""
    table = empty_table(
        f"Study {results.study} over {results.project}", [*map(_header, results.space), "objective"], "trial"
    )
    table.columns[-1].no_wrap = True
    for trial in results.ranked:
        table.add_row(trial.project, *(short(trial.values[name]) for name in results.space), _outcome(trial))
    failed = [f"{trial.project}: {trial.error}" for trial in results.trials if trial.error is not None]
    table.caption = "\n".join(failed) or None
    return table


def _header(name: str) -> str:
    """Return the name of an option, on two lines if it is long."""
    start, _, end = name.rpartition("_")
    return f"{start}_\n{end}" if start and len(name) > _LONGEST_HEADER else name


def _outcome(trial: SweepTrial) -> str:
    return trial.state if trial.objective is None else f"{trial.objective:.4f}"
