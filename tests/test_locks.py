"""A lock for which a second process waits, and one that never becomes free."""

import threading
from pathlib import Path

import pytest

from phaze_ee import locks
from phaze_ee.errors import UsageError
from phaze_ee.locks import held, is_locked


def hold_until(path: Path, end: threading.Event) -> threading.Thread:
    """Hold a lock in a thread, as another process does."""
    begun = threading.Event()

    def hold() -> None:
        with held(path, "monitor"):
            begun.set()
            end.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert begun.wait(30)
    return thread


def test_a_second_process_says_once_that_it_waits(tmp_path: Path) -> None:
    path, end, said = tmp_path / "new" / ".monitor.lock", threading.Event(), list[str]()

    def tell(line: str) -> None:
        said.append(line)
        threading.Timer(0.3, end.set).start()

    thread = hold_until(path, end)
    with held(path, "monitor", tell):
        assert end.is_set()
        assert is_locked(path)
    thread.join()
    (line,) = said
    assert line.startswith("Waiting: another monitor (process ")
    assert line.endswith(f"is at work in {path.parent}")
    assert not is_locked(path)
    assert [left.name for left in path.parent.iterdir()] == [".monitor.lock"]
    with held(path, "monitor", tell):
        assert said == [line]


def test_nobody_waits_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_LONGEST_WAIT", 0.1)
    end = threading.Event()
    thread = hold_until(tmp_path / ".monitor.lock", end)
    try:
        with pytest.raises(UsageError, match="is in use by another monitor"):
            held(tmp_path / ".monitor.lock", "monitor", lambda line: None).__enter__()
    finally:
        end.set()
        thread.join()
