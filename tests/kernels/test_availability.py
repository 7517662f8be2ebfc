"""Where kernels run, and what is said where they do not."""

import pytest
import torch

from phaze_ee.kernels.availability import is_large, runs_kernels, triton_available


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
    is_large.cache_clear()
    assert is_large((9, 0))
    assert is_large((8, 0))
    assert not caplog.text
    assert not is_large((8, 9))
    assert not is_large((8, 9))
    assert caplog.text.count("compute capability 8.9") == 1
