"""Tables of mode compare."""

from collections.abc import Sequence

from rich.table import Table

from phaze_ee.names import FULL_MODEL, brief, exit_title
from phaze_ee.results.project import ProjectResults
from phaze_ee.tables.style import OWN_PARTICLES, UNKNOWN, add_caption, empty_table, few, millions, number, with_error

_LONGEST_NAME = 18


def comparison_table(projects: Sequence[ProjectResults]) -> Table:
    """Return the full model and the policy of each project; at most 12 rows.

    MACs are means over the test jets. If one of the results is of version 0.1, they are those of a padded jet.
    """
    own = all(project.evaluation.exits[FULL_MODEL].mean_macs is not None for project in projects)
    columns = ["accuracy", "AUC", "MACs [M]", "by policy", "of full"]
    table = empty_table("Comparison of projects: full model; accuracy and cost by the policy", columns, first="project")
    for project in few(projects):
        if project is None:
            table.add_row("…")
            continue
        full = project.evaluation.exits[FULL_MODEL]
        policy = None if project.dynamic is None else project.dynamic.policy
        macs = full.mean_macs if own else project.cost(FULL_MODEL, "macs")
        table.add_row(
            brief(project.name, _LONGEST_NAME),
            with_error(full.accuracy, full.accuracy_error),
            number(full.roc_auc, ".4f"),
            millions(macs),
            number(None if policy is None else policy.accuracy, ".4f"),
            UNKNOWN if policy is None else f"{100 * policy.macs_share:.1f} %",
        )
    particles = " or ".join(map(str, sorted({project.benchmark.particles for project in projects})))
    add_caption(table, OWN_PARTICLES if own else f"MACs: one jet padded to {particles} particles")
    return table


def exits_table(projects: Sequence[ProjectResults]) -> Table:
    """Return accuracy and cost of exits and policies of several projects, grouped by project; MACs of a padded jet."""
    columns = ["accuracy", "AUC", "MACs [M]", "parameters"]
    table = empty_table("Exits of all projects; MACs of one padded jet", columns, first="project, exit")
    for column in table.columns[1:]:
        column.no_wrap = True  # a long name folds instead
    for project in projects:
        table.add_row(project.name, style="bold")
        for name, exit_ in project.with_policy.exits.items():
            table.add_row(
                f"  {exit_title(name)}",
                with_error(exit_.accuracy, exit_.accuracy_error),
                number(exit_.roc_auc, ".4f"),
                millions(project.cost(name, "macs")),
                f"{round(project.cost(name, 'params')):,}",
            )
    return table
