"""Saved states with damaged bytes or contents of other types: the previous state is used, and this is said."""

from pathlib import Path
from typing import Any

import pytest
import torch

from phaze_ee.training.module import RunningMeans
from phaze_ee.training.resume import PROCESSES, find_resume_point, forget, previous

WEIGHT = torch.arange(64, dtype=torch.float32)


def state(step: int) -> dict[str, Any]:
    own = {"epoch": 1, "batch": step, "random": [{}], "so_far": [{}], "buffers": {}, "run": {"lr": 0.1}}
    parts: dict[str, Any] = {"optimizer_states": [], "lr_schedulers": [], "loops": {}, "callbacks": {}}
    return {"global_step": step, "state_dict": {"weight": WEIGHT}, "phaze_ee": own, **parts}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "resume.ckpt"
    torch.save(state(7), previous(path))
    torch.save(state(8), path)
    return path


def test_the_newest_state(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    point = find_resume_point(path)
    assert point is not None
    assert (point.path, point.epoch, point.batch, point.step, point.run) == (path, 1, 8, 8, {PROCESSES: 1, "lr": 0.1})
    assert not caplog.records
    forget(path)
    assert find_resume_point(path) is None


def test_a_flipped_bit(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = path.read_bytes()
    place = whole.index(WEIGHT.numpy().tobytes()) + 100
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    torch.load(path, weights_only=True)  # torch does not notice
    point = find_resume_point(path)
    assert point is not None
    assert point.path == previous(path)
    assert "the previous state is used" in caplog.text


@pytest.mark.parametrize("other", ["damaged", None])
def test_where_no_state_can_be_read_the_training_starts_again(
    path: Path, other: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(b"damaged")
    previous(path).unlink()
    if other is not None:
        previous(path).write_text(other)
    assert find_resume_point(path) is None
    endings = [record.getMessage().partition("; ")[2] for record in caplog.records]
    assert endings == ["the previous state is used", "the training starts again"][other is None :]


@pytest.mark.parametrize(
    "change",
    [
        {"global_step": None},
        {"global_step": "8"},
        {"state_dict": []},
        {"state_dict": {"weight": 1}},
        {"phaze_ee": {}},
        {"phaze_ee": {**state(8)["phaze_ee"], "epoch": 1.5}},
        {"optimizer_states": None},
        {"loops": [1]},
    ],
    ids=str,
)
def test_contents_of_other_types(path: Path, caplog: pytest.LogCaptureFixture, change: dict[str, Any]) -> None:
    torch.save({**state(8), **change}, path)
    point = find_resume_point(path)
    assert point is not None
    assert point.path == previous(path)
    assert "the previous state is used" in caplog.text


def test_sums_that_are_no_numbers() -> None:
    means = RunningMeans()
    means.add({"loss": torch.tensor(2.0)}, 3)
    stored = means.state_dict()
    again = RunningMeans.from_state_dict(stored)
    assert (again.state_dict(), float(again.means["loss"])) == (stored, 2.0)
    for wrong in (torch.tensor([1j, 2j]), "6", None):
        with pytest.raises(TypeError, match="the sum of loss is no number"):
            RunningMeans.from_state_dict({**stored, "sums": {"loss": wrong}})
    with pytest.raises(TypeError):
        RunningMeans.from_state_dict({**stored, "jets": 1.5})
