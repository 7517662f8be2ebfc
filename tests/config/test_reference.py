"""The configuration reference says what the options are."""

from pathlib import Path
from typing import Any

import pytest

from phaze_ee.config.options import Options
from phaze_ee.config.reference import describe_type, render_reference

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "CONFIGURATION.md"


def test_the_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == render_reference(), (
        "run: python -m phaze_ee.config.reference > docs/CONFIGURATION.md"
    )


@pytest.mark.parametrize("name", Options.model_fields)
def test_every_option_has_one_row(name: str) -> None:
    tables = render_reference().partition("## What a new project sets")[0]
    rows = [line for line in tables.splitlines() if line.startswith(f"| `{name}` |")]
    assert len(rows) == 1
    assert Options.model_fields[name].description


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("data_config", "str"),
        ("background", "str or None"),
        ("use_amp", "bool"),
        ("epochs", "int > 0"),
        ("beta_max", "list of float ≥ 0"),
        ("beta_schedule", "`'linear'` or `'cosine'` or `'switch'`"),
        ("exit_stages", "list of (int ≥ 0 or `'input'`) or None"),
        ("fc_params", "list of (int > 0, float ≥ 0 and < 1)"),
    ],
)
def test_types_are_words(name: str, words: str) -> None:
    schema: dict[str, Any] = Options.model_json_schema()["properties"][name]
    assert describe_type(schema) == words
