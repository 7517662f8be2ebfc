"""Where kernels run, and what is said where they do not."""

import pytest
import torch

from phaze_ee.kernels.availability import is_enough, runs_kernels, triton_available


def test_the_cpu_has_loops_of_its_own() -> None:
    assert not runs_kernels(torch.zeros(1))


def test_without_triton_one_line_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    triton_available.cache_clear()
    assert not triton_available()
    assert not triton_available()
    triton_available.cache_clear()
    assert caplog.text.count("pip install triton") == 1


def test_a_small_card_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    is_enough.cache_clear()
    for capability in ((8, 0), (8, 9), (9, 0), (12, 0)):
        assert is_enough(capability)
    assert not caplog.text
    assert not is_enough((7, 5))
    assert not is_enough((7, 5))
    assert caplog.text.count("compute capability 7.5") == 1
