from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phaze_ee.errors import UsageError
from phaze_ee.sweep.space import Range, check_space, combinations, is_grid, parse_space, values_of


def test_choices_are_python_values_or_words() -> None:
    space = parse_space(
        ["exit_loss_strategy=mimic_detached,target_flow", "conv_params=[(4, (8, 8))],[(8, (16,))]", "seed=None,1"]
    )
    assert is_grid(space)
    values = [values_of(space, drawn) for drawn in combinations(space)]
    assert len(values) == 8
    assert values[0] == {"exit_loss_strategy": "mimic_detached", "conv_params": [(4, (8, 8))], "seed": None}
    assert values[-1] == {"exit_loss_strategy": "target_flow", "conv_params": [(8, (16,))], "seed": 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr=1e-3:1e-2:log", (1e-3, 1e-2, True, False)),
        ("lr=0:1", (0, 1, False, False)),
        ("epochs=2:9:int", (2, 9, False, True)),
        ("epochs=2:64:log:int", (2, 64, True, True)),
    ],
)
def test_ranges(text: str, expected: tuple[float, float, bool, bool]) -> None:
    ((_, found),) = parse_space([text]).items()
    assert isinstance(found, Range)
    assert (found.low, found.high, found.log, found.integer) == expected


def test_a_word_with_a_colon_is_a_choice() -> None:
    assert is_grid(parse_space(["init_from=root://server//a.pt,None"]))


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("lr", "has no '='"),
        ("lrr=1", "unknown option 'lrr'; did you mean 'lr'?"),
        ("lr=", "a value is missing"),
        ("lr=1,,2", "a value is missing"),
        ("lr=1,2,1", "1 is given twice"),
        ("lr=1:1", "the range is empty"),
        ("lr=2:1:log", "the range is empty"),
        ("lr=0:1:log", "0 has no logarithm"),
        ("lr=1:inf", "'inf' is not a number"),
        ("lr=1:2:cubic", "'cubic' is not one of log, int"),
        ("epochs=1.5:3:int", "needs whole numbers"),
        ("conv_params=[(4,(8,8)]", "neither a Python value nor a word"),
    ],
)
def test_a_wrong_setting_is_one_line(setting: str, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_space([setting])
    assert setting in str(caught.value)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_a_setting_or_with_one_twice_there_is_no_space() -> None:
    with pytest.raises(UsageError, match="at least one --set"):
        parse_space([])
    with pytest.raises(UsageError, match="lr is set twice"):
        parse_space(["lr=1,2", "lr=3"])


def test_every_combination_of_a_grid_is_checked_and_of_a_search_every_sample() -> None:
    seen: list[Mapping[str, Any]] = []
    check_space(parse_space(["lr=1,2", "epochs=3,4"]), seen.append)
    assert len(seen) == 4
    seen.clear()
    check_space(parse_space(["lr=1:2", "epochs=3,4"]), seen.append)
    assert [tuple(values.values()) for values in seen] == [(1, 3), (1.5, 3), (2, 3), (1, 3), (1, 4)]


def test_what_the_configuration_refuses_is_named() -> None:
    def refuse(values: Mapping[str, Any]) -> None:
        if values["lr"] == 2:
            raise UsageError("too large")

    with pytest.raises(UsageError, match=r"--set lr=2, epochs=3: too large"):
        check_space(parse_space(["lr=1,2", "epochs=3"]), refuse)


@given(st.text(max_size=40))
def test_any_text_is_understood_or_refused_in_one_line(text: str) -> None:
    try:
        space = parse_space([f"lr={text}"])
    except UsageError:
        return
    assert all(values_of(space, drawn).keys() == {"lr"} for drawn in combinations(space))
