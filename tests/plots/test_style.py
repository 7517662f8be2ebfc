import logging
from pathlib import Path

import matplotlib as mpl
import pytest

from phaze_ee.errors import RunError
from phaze_ee.plots.style import PALETTE, save
from phaze_ee.plots.tradeoff import tradeoff_figure
from tests.plots.examples import project_results


def test_both_formats_are_written_and_settings_restored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = dict(mpl.rcParams)
    caplog.set_level(logging.WARNING)
    paths = save(tradeoff_figure([project_results("β_μ")], "flops", "accuracy"), tmp_path / "new" / "lr_1.5")
    assert [path.name for path in paths] == ["lr_1.5.png", "lr_1.5.pdf"]
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert paths[1].read_bytes().startswith(b"%PDF")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["lr_1.5.pdf", "lr_1.5.png"]
    assert dict(mpl.rcParams) == before
    assert not caplog.records


def test_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        save(tradeoff_figure([project_results()], "flops", "accuracy"), tmp_path / folder / "figure")
    for name in ("figure.png", "figure.pdf"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_unwritable_place_is_a_run_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(RunError, match="cannot write"):
        save(tradeoff_figure([project_results()], "flops", "accuracy"), tmp_path / "file" / "figure")


def test_ten_colours() -> None:
    assert len(set(PALETTE)) == 10
