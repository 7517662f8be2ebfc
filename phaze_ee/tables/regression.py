"""Tables of the targets of a regression."""

from rich.table import Table

from phaze_ee.names import POLICY, exit_title
from phaze_ee.results.evaluation import EvaluationResults, ExitEvaluation, TargetEvaluation
from phaze_ee.tables.style import UNKNOWN, add_caption, empty_table, few, with_error


def target_tables(results: EvaluationResults, policy: ExitEvaluation | None) -> list[Table]:
    """Return for each target how close the predictions of each exit, the full model and the policy are; often none.

    Args:
        results: of the exits.
        policy: the answers by the policy; None without one.
    """
    rows = {exit_title(name): exit_ for name, exit_ in results.exits.items()} | ({POLICY: policy} if policy else {})
    names = next(iter(results.exits.values())).targets or {}
    return [
        _target_table(name, {row: exit_.targets[name] for row, exit_ in rows.items() if exit_.targets})
        for name in names
    ]


def _target_table(name: str, rows: dict[str, TargetEvaluation]) -> Table:
    first = next(iter(rows.values()))
    table = empty_table(
        f"target {name}: {first.jets:,} jets with a spread of {first.target_spread:.4g}",
        ["bias", "resolution", "response", "its resolution"],
    )
    for row in few(list(rows.items())):
        if row is None:
            table.add_row("…")
            continue
        title, own = row
        table.add_row(
            title,
            with_error(own.bias, own.bias_error),
            with_error(own.resolution, own.resolution_error),
            _known(own.response, own.response_error),
            _known(own.response_resolution, own.response_resolution_error),
            style="bold" if title == POLICY else None,
        )
    add_caption(table, "bias, resolution: median, half of the 16-84 % span of prediction - target")
    add_caption(table, "response: the same of prediction / target; spread: half span of the target")
    return table


def _known(value: float | None, error: float | None) -> str:
    return UNKNOWN if value is None or error is None else with_error(value, error)
