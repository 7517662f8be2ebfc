"""Data configurations that are too deep or too large end in one line."""

from pathlib import Path

import pytest

from phaze_ee.data.weaver_yaml import read_options
from phaze_ee.errors import DataError

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("inputs: " + "[" * 20_000, "nested too deeply"),
        ("inputs: " + "{a: " * 20_000, "nested too deeply"),
        (LAUGHS, "has more than 1,000,000 values"),
        ("a: &a [*a]", "has more than 1,000,000 values"),
        ("a: " + "1" * 5_000, "cannot read data config"),
        ("a: 2024-99-99", "cannot read data config"),
        ("# " + "x" * 20_000_000, "has more than 20,000,000 bytes"),
    ],
    ids=range(7),
)
def test_too_deep_or_too_large(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "data.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=problem) as caught:
        read_options(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_aliases_are_allowed(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    path.write_text("a: &a [1, 2]\nb: *a\n")
    assert read_options(path) == {"a": [1, 2], "b": [1, 2]}
