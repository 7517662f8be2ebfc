from pathlib import Path
from typing import Any

import pytest

from phaze_ee.errors import UsageError
from phaze_ee.generate import GeneratorOptions


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"jets_per_class": 0}, "jets_per_class is 0"),
        ({"workers": 0}, "workers is 0"),
        ({"jets_per_file": -1}, "jets_per_file is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"mode": "exact"}, "unknown mode 'exact'"),
        ({"classes": ("HToBb",)}, "unknown class 'HToBb'; did you mean 'HToBB'"),
        ({"classes": ("Htobb",)}, "did you mean 'HToBB'"),
        ({"classes": ("wqq",)}, "did you mean 'WToQQ'"),
        ({"classes": ()}, "at least one class"),
        ({"classes": ("HToBB", "HToBB")}, "only once"),
    ],
)
def test_wrong_options_are_refused_in_one_line(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as refusal:
        GeneratorOptions(tmp_path, **wrong)
    assert "\n" not in str(refusal.value)


def test_command_repeats_the_sample(tmp_path: Path) -> None:
    options = GeneratorOptions(tmp_path / "mine", 20, ("HToBB", "ZToQQ"), seed=7, mode="fast", workers=2)
    assert options.command == (
        "phaze_ee -m generate --output mine --jets 20 --seed 7 --generator fast --classes HToBB ZToQQ"
    )
