"""Tables of the placements of exits."""

from collections.abc import Sequence

from rich.table import Table

from phaze_ee.paired import SIGNIFICANCE, significant
from phaze_ee.results.placement import PlacementPoint, PlacementResults
from phaze_ee.tables.style import OWN_PARTICLES, UNKNOWN, add_caption, empty_table, with_error

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
    """Return the Pareto-optimal placements, at most 10 of them and the recommended one, which is in bold.

    Differences are in percentage points, with their paired error. A star marks those that are significant among all
    that are shown.
    """
    table = empty_table(
        f"placements that no other beats, on {results.judging_jets:,} jets",
        ["of full", "accuracy", "difference [pp]", "", "leave at exits (%)"],
        first="exit_stages",
    )
    points = _some(results)
    stars = _stars(points)
    for point, star in zip(points, stars, strict=True):
        fractions = " ".join(f"{100 * fraction:.0f}" for fraction in point.exit_fractions)
        table.add_row(
            str(point.exit_stages).replace("'", '"'),
            f"{100 * point.macs_share:.1f} %",
            f"{point.accuracy:.4f}",
            _difference(point),
            star,
            fractions,
            style="bold" if point == results.recommended else None,
        )
    add_caption(table, OWN_PARTICLES)
    tested = sum(_is_tested(point) for point in points)
    if tested:
        add_caption(table, "difference: to the full model, with the paired error of the same jets")
        found = "*:" if any(stars) else "none is"
        correction = f", Holm's correction for {tested}" if tested > 1 else ""
        add_caption(table, f"{found} significant at {100 * SIGNIFICANCE:g} % (McNemar's exact test{correction})")
    return table


def _is_tested(point: PlacementPoint) -> bool:
    return bool(point.exit_stages) and point.p_value is not None


def _stars(points: Sequence[PlacementPoint]) -> list[str]:
    """Return a star for each placement with exits that differs significantly from the full model."""
    rejected = iter(significant([point.p_value for point in points if point.exit_stages and point.p_value is not None]))
    return ["*" if _is_tested(point) and next(rejected) else "" for point in points]


def _difference(point: PlacementPoint) -> str:
    if not point.exit_stages or point.difference is None or point.difference_error is None:
        return "" if not point.exit_stages else UNKNOWN
    return f"{'+' if point.difference > 0 else ''}{with_error(100 * point.difference, 100 * point.difference_error)}"


def _some(results: PlacementResults) -> list[PlacementPoint]:
    """Return points spread evenly over the Pareto set, and the recommended one, which may be outside of it."""
    front = results.pareto
    chosen = {round(index * (len(front) - 1) / (_MOST_ROWS - 1)) for index in range(_MOST_ROWS)}
    points = [point for index, point in enumerate(front) if index in chosen and point != results.recommended]
    return sorted([*points, results.recommended], key=lambda point: point.macs_share)
