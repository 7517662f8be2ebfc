"""What a training prints: lines in a log, a bar in a terminal."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from phaze_ee.training.progress import duration
from tests.training.test_run import run


def printed(folder: Path, *, terminal: bool, log_interval: int, **changes: Any) -> list[str]:
    console = Console(file=io.StringIO(), width=80, force_terminal=terminal, color_system=None)
    run(folder, console=console, log_interval=log_interval, **changes)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_log_has_a_line_every_log_interval_batches_and_every_epoch(tmp_path: Path) -> None:
    lines = printed(tmp_path, terminal=False, log_interval=3)  # 3 epochs of 4 batches
    places = [found[0] for line in lines if (found := re.match(r"epoch +\d+/3  batch \d+/4", line))]
    assert places == [
        "epoch   1/3  batch 3/4", "epoch   2/3  batch 2/4", "epoch   3/3  batch 1/4", "epoch   3/3  batch 4/4",
    ]  # fmt: skip
    line = next(line for line in lines if "batch 3/4" in line)
    assert re.search(r"  loss \d\.\d{3} acc \d\.\d\d  [\d,]+ jets/s  \d+ s left$", line)
    assert sum("val acc: exits" in line for line in lines) == 3
    assert max(map(len, lines)) <= 80


def test_an_epoch_without_validation_has_no_accuracies_of_an_earlier_one(tmp_path: Path) -> None:
    lines = printed(tmp_path, terminal=False, log_interval=100, epochs=4, val_interval=2, save_interval=1)
    assert ["val acc" in line for line in lines if line.startswith("epoch")] == [False, True, False, True]
    for epoch in range(4):
        kept = torch.load(tmp_path / "models" / f"epoch_00{epoch + 1}.pt", weights_only=True)["metrics"]
        assert any(name.startswith("val/") for name in kept) == bool(epoch % 2)


def test_a_terminal_has_a_bar_and_no_lines(tmp_path: Path) -> None:
    text = "\n".join(printed(tmp_path, terminal=True, log_interval=1))
    assert "jets/s" in text
    assert "batch 1/4" not in text
    assert "val acc: exits" not in text


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (119, "119 s"), (150, "2 min"), (7_000, "117 min"), (9_000, "2.5 h")]
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words
