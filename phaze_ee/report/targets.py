"""What the report says of the targets of a regression."""

from collections.abc import Sequence

from phaze_ee.report.markup import paragraph, section, table
from phaze_ee.tables.regression import COLUMNS, MEANINGS, TargetRows


def targets(found: Sequence[TargetRows], note: str = "") -> str:
    """Return a section with a table for each target, and what its columns mean; empty without targets."""
    if not found:
        return ""
    tables = (paragraph(_sentence(one.title)) + table(("answer of", *COLUMNS), one.rows) for one in found)
    meaning = " ".join([*map(_sentence, MEANINGS), note])
    return section("targets", "Targets of the regression", *tables, paragraph(meaning.strip(), "note"))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
