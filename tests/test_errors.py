"""Messages stay short, and names are text."""

import os

import pytest

from phaze_ee.errors import UsageError, check_utf8, shortened


def test_a_usual_message_stays_as_it_is() -> None:
    text = "cannot read /data/jets.root: lzma data error; is it complete? copy or download it again"
    assert shortened(text) == text


@pytest.mark.parametrize("filling", ["x", "x" * 5000, "a/b", "(part_px/part_py)*" * 300])
def test_a_long_message_is_cut_in_the_middle(filling: str) -> None:
    path = "/data/run 3/" + "deep/" * 30 + "jets.root"
    text = shortened(f"{path}: cannot compute {' '.join([filling] * 500)} on a row; correct the data config")
    assert text.startswith(f"{path}: cannot")
    assert text.endswith("correct the data config")
    assert text.count("…") >= 1
    assert len(text) <= 300 + len(path) + 255


def test_names_that_are_not_utf8() -> None:
    check_utf8("file", "jets_für_alle.root")
    with pytest.raises(UsageError) as caught:
        check_utf8("file", os.fsdecode(b"jets_\xff.root"))
    assert str(caught.value) == r"file b'jets_\xff.root' is not UTF-8; rename it"


def test_no_text_of_a_file_controls_the_terminal() -> None:
    text = shortened("no branch \x1b[2J\u2028é\u202e\x85\udcff; correct it")
    assert text == r"no branch \x1b[2J\u2028é\u202e\x85\udcff; correct it"
