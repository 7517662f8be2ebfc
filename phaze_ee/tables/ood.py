"""Tables of the detection of out-of-distribution (OOD) jets."""

from collections.abc import Mapping

from rich.table import Table

from phaze_ee.names import exit_title, ood_score_title
from phaze_ee.results.ood import OODDetection, OODPolicy, OODResults
from phaze_ee.tables.style import add_caption, empty_table, in_percent


def ood_tables(results: OODResults) -> list[Table]:
    """Return the AUROCs and, if there is a policy, where jets leave."""
    leaving = [] if results.policy is None else [leaving_table(results.policy)]
    return [auroc_table(results), *leaving]


def auroc_table(results: OODResults) -> Table:
    """Return the AUROC of each score at each exit and by the policy."""
    names = list(dict.fromkeys(name for scores in results.exits.values() for name in scores))
    table = empty_table(
        f"AUROC of {results.ood_jets:,} OOD jets against {results.jets:,} jets of {results.project}",
        [ood_score_title(name).removeprefix("disagreement ") for name in names],
    )
    for exit_, scores in results.exits.items():
        table.add_row(exit_title(exit_), *_areas(scores, names))
    if results.policy is not None:
        table.add_row("by the policy", *_areas(results.policy.scores, names))
    add_caption(table, "errors: DeLong, one σ; 0.5 is blind; disagreement needs the full model's answer")
    return table


def leaving_table(policy: OODPolicy) -> Table:
    """Return the shares of both samples that leave at each exit."""
    table = empty_table(
        f"Where jets leave by the policy of score {policy.score}", ["project's jets", "OOD jets"], first="exit"
    )
    for name, own in policy.exits.items():
        ood = policy.ood_exits[name]
        table.add_row(exit_title(name), *(in_percent(share.value, share.error) for share in (own, ood)))
    return table


def _areas(scores: Mapping[str, OODDetection], names: list[str]) -> list[str]:
    found = [scores.get(name) for name in names]
    # Always three decimals: a fourth would not fit into 80 columns.
    return ["-" if area is None else f"{area.auroc:.3f} ± {area.auroc_error:.3f}" for area in found]
