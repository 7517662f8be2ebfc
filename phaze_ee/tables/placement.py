"""Tables of the placements of exits."""

from rich.table import Table

from phaze_ee.results.placement import PlacementPoint, PlacementResults
from phaze_ee.tables.style import OWN_PARTICLES, add_caption, empty_table, with_error

_MOST_ROWS = 10


def candidate_table(results: PlacementResults) -> Table:
    """Return accuracy and cost of a single exit after each stage."""
    table = empty_table(
        f"{results.project}: exits ({results.exit_head}) at all stages",
        ["accuracy", "MACs of full"],
        first="after stage",
    )
    for candidate in results.candidates:
        table.add_row(str(candidate.stage), f"{candidate.accuracy:.4f}", f"{100 * candidate.macs_share:.2f} %")
    table.add_row("full model", f"{results.full_model.accuracy:.4f}", "100.00 %")
    add_caption(table, OWN_PARTICLES)
    return table


def placement_table(results: PlacementResults) -> Table:
    """Return the Pareto-optimal placements, at most 10 of them and the recommended one, which is in bold."""
    table = empty_table(
        f"placements that no other beats, on {results.judging_jets:,} jets",
        ["MACs of full", "accuracy", "leave at each exit (%)"],
        first="exit_stages",
    )
    for point in _some(results):
        fractions = " ".join(f"{100 * fraction:.0f}" for fraction in point.exit_fractions)
        table.add_row(
            str(point.exit_stages).replace("'", '"'),
            f"{100 * point.macs_share:.1f} %",
            with_error(point.accuracy, point.accuracy_error),
            fractions,
            style="bold" if point == results.recommended else None,
        )
    add_caption(table, OWN_PARTICLES)
    return table


def _some(results: PlacementResults) -> list[PlacementPoint]:
    """Return points spread evenly over the Pareto set, and the recommended one, which may be outside of it."""
    front = results.pareto
    chosen = {round(index * (len(front) - 1) / (_MOST_ROWS - 1)) for index in range(_MOST_ROWS)}
    points = [point for index, point in enumerate(front) if index in chosen and point != results.recommended]
    return sorted([*points, results.recommended], key=lambda point: point.macs_share)
