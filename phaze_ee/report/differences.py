"""Tables of differences of accuracies on the same jets."""

from phaze_ee.paired import SIGNIFICANCE
from phaze_ee.report.markup import paragraph, table
from phaze_ee.results.differences import Differences
from phaze_ee.tables.style import UNKNOWN


def differences(found: Differences, first: str) -> str:
    """Return the accuracies minus that of the reference, with their errors.

    Args:
        found: the answers and the reference.
        first: the title of the first column.
    """
    seeded = any(answer.spread is not None for answer in found.answers)
    rows = []
    for answer in found.answers:
        one = answer.difference
        if one is not None:
            spread = [UNKNOWN if one.spread is None else f"{100 * one.spread:.2f}"] if seeded else []
            jets = f"{100 * one.jets_error:.2f}{'' if one.paired else ' (not paired)'}"
            rows.append((answer.name, f"{100 * one.value:+.2f}", *spread, jets, "yes" if one.significant else "no"))
    head = (first, "difference", *(["± seeds"] if seeded else []), "± jets", f"significant at {100 * SIGNIFICANCE:g} %")
    note = (
        f"Accuracy minus that of {found.reference}, in percentage points. ± jets: error for the number of jets, paired "
        f"for the same jets. Significant: {_test(found, seeded=seeded)}, with Holm's correction for all that are shown."
    )
    return table(head, rows) + paragraph(note, "note")


def _test(found: Differences, *, seeded: bool) -> str:
    if seeded:
        return "by Student's t with both errors, and larger than ± seeds (the standard deviation over the seeds)"
    return "by McNemar's exact test" if all(one.paired for one in found.contrasts) else "by ± jets"
