"""The configuration that a new project starts with."""

from pathlib import Path

import pytest

from phaze_ee.config.load import load_options
from phaze_ee.config.options import Options
from phaze_ee.config.template import DEMO_VALUES, SAMPLE_VALUES, render_config, render_demo


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "first_config.py"
    path.write_text(render_config("JetClass/first"), encoding="utf-8")
    return path


def test_it_loads_with_the_sample_values_and_the_defaults(config: Path) -> None:
    assert load_options(config) == Options(**SAMPLE_VALUES)


def test_the_demo_has_a_configuration_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "demo_config.py"
    path.write_text(render_demo("demo/sample_jets_1"), encoding="utf-8")
    assert load_options(path) == Options(**DEMO_VALUES)
    assert max(map(len, path.read_text(encoding="utf-8").splitlines())) <= 120


@pytest.mark.parametrize("name", Options.model_fields)
def test_every_option_stands_in_it_once_under_a_comment(name: str) -> None:
    lines = render_config("JetClass/first").splitlines()
    places = [index for index, line in enumerate(lines) if line.startswith(f"    c.{name} = ")]
    assert len(places) == 1
    assert lines[places[0] - 1].startswith("    # ")


def test_nothing_is_left_to_fill_in() -> None:
    text = render_config("JetClass/first")
    assert "project JetClass/first" in text
    assert "{project}" not in text
    assert max(map(len, text.splitlines())) <= 120


def test_what_differs_from_the_defaults_is_marked() -> None:
    lines = render_config("JetClass/first").splitlines()
    for name in SAMPLE_VALUES:
        place = next(index for index, line in enumerate(lines) if line.startswith(f"    c.{name} = "))
        comment = []
        while lines[place - 1].startswith("    #"):
            place -= 1
            comment.append(lines[place])
            if not lines[place].startswith("    #   "):
                break
        assert "[sample" in " ".join(reversed(comment))
    assert sum("[sample" in line for line in lines[8:]) >= len(SAMPLE_VALUES)


@pytest.mark.parametrize("name", [name for name, field in Options.model_fields.items() if not field.is_required()])
def test_an_option_can_be_deleted_and_falls_back_to_its_default(config: Path, name: str) -> None:
    values = {other: value for other, value in SAMPLE_VALUES.items() if other != name}
    lines = config.read_text(encoding="utf-8").splitlines(keepends=True)
    config.write_text("".join(line for line in lines if not line.startswith(f"    c.{name} = ")), encoding="utf-8")
    assert load_options(config) == Options(**values)
