"""The study: what is drawn, how often, by whom. A dead process is one whose lock is let go without a word."""

import fcntl
import os
from pathlib import Path

import optuna
import pytest

from phaze_ee.errors import UsageError
from phaze_ee.sweep.claim import Claim
from phaze_ee.sweep.space import parse_space
from phaze_ee.sweep.storage import open_study
from phaze_ee.sweep.study import Attempt, SweepStudy

GRID = ("exit_loss_strategy=mimic_flow,target_flow", "batch_size=16,32")
SEARCH = ("lr=1e-3:1e-1:log", "epochs=1:9:int")


def opened(
    folder: Path, settings: tuple[str, ...] = SEARCH, limit: int = 4, storage: str = "study.journal"
) -> SweepStudy:
    url = storage if "://" in storage else str(folder / storage)
    terms = {"--set": dict(setting.split("=", 1) for setting in settings), "configuration:": {"seed": 3}}
    study, seed = open_study(url, "W/P/sweep", folder, terms, seed=3)
    return SweepStudy(study, folder, parse_space(settings), seed, limit)


def finished(study: SweepStudy) -> list[dict[str, object]]:
    """Run all that is left, with an objective that depends on the values, and return these in order."""
    while (attempt := study.next_attempt()) is not None:
        study.finish(attempt, float(attempt.drawn.get("lr", 0.5)))
    return [dict(trial.params) for trial in study.trials()]


def die_with(attempt: Attempt) -> None:
    os.close(attempt.claim.descriptor)


def test_a_grid_is_every_combination_once(tmp_path: Path) -> None:
    values = finished(opened(tmp_path, GRID))
    assert [tuple(value.values()) for value in values] == [
        ("mimic_flow", "16"), ("mimic_flow", "32"), ("target_flow", "16"), ("target_flow", "32")
    ]  # fmt: skip


def test_started_again_a_search_draws_what_it_would_have_drawn(tmp_path: Path) -> None:
    for folder in ("whole", "parts"):
        (tmp_path / folder).mkdir()
    whole = finished(opened(tmp_path / "whole", limit=13))  # beyond the ten that TPE draws at random
    finished(opened(tmp_path / "parts", limit=11))
    assert finished(opened(tmp_path / "parts", limit=13)) == whole
    assert len({value["lr"] for value in whole}) == 13


def test_a_database_serves_as_well(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    first = finished(opened(tmp_path, limit=1, storage=url))
    assert finished(opened(tmp_path, limit=2, storage=url))[:1] == first


def test_two_processes_share_the_trials(tmp_path: Path) -> None:
    first, second = opened(tmp_path, GRID, limit=3), opened(tmp_path, GRID, limit=3)
    attempts = [study.next_attempt() for study in (first, second, first, second)]
    assert [attempt and attempt.number for attempt in attempts] == [0, 1, 2, None]
    assert len({tuple(attempt.drawn.values()) for attempt in attempts if attempt}) == 3


def test_the_trial_of_a_dead_process_is_run_again_and_by_one_only(tmp_path: Path) -> None:
    left = opened(tmp_path).next_attempt()
    assert left is not None
    others = [opened(tmp_path), opened(tmp_path)]
    alive = others[0].next_attempt()
    assert alive is not None
    assert alive.number == 1
    die_with(left)
    again, following = (study.next_attempt() for study in others)
    assert again is not None
    assert following is not None
    assert (again.number, again.drawn) == (0, left.drawn)
    assert following.number == 2


def test_what_has_ended_is_never_started_again(tmp_path: Path) -> None:
    study = opened(tmp_path, limit=2)
    for objective in (0.5, None):
        attempt = study.next_attempt()
        assert attempt is not None
        study.finish(attempt, objective)
    assert opened(tmp_path, limit=2).next_attempt() is None
    assert [trial.state.name for trial in study.trials()] == ["COMPLETE", "FAIL"]
    assert not list(tmp_path.glob("trial_*.lock"))


def test_a_trial_that_was_half_drawn_counts_for_nothing(tmp_path: Path) -> None:
    study = opened(tmp_path, GRID)
    optuna.load_study(study_name="W/P/sweep", storage=study._study._storage).ask()
    values = finished(study)
    assert len({tuple(value.values()) for value in values if value.keys() == study.space.keys()}) == 4


def test_a_combination_whose_process_died_before_it_was_drawn_comes_once(tmp_path: Path) -> None:
    study = opened(tmp_path, GRID)
    study._study.enqueue_trial({"exit_loss_strategy": "mimic_flow", "batch_size": "16"})
    values = finished(study)
    assert len({tuple(value.values()) for value in values}) == len(values) == 4


def test_a_range_with_log_is_searched_in_all_its_decades(tmp_path: Path) -> None:
    values = finished(opened(tmp_path, ("lr=1e-8:1:log", "epochs=1:100000000:int:log"), limit=10))
    assert sum(float(str(value["lr"])) < 0.01 for value in values) > 4
    assert sum(int(str(value["epochs"])) < 1_000_000 for value in values) > 4


def test_a_study_made_otherwise_is_refused_with_what_differs(tmp_path: Path) -> None:
    opened(tmp_path)
    with pytest.raises(UsageError, match=r"--set lr was 1e-3:1e-1:log, is 1e-3:1:log; choose another --study"):
        opened(tmp_path, ("lr=1e-3:1:log", SEARCH[1]))
    with pytest.raises(UsageError, match=r"--set epochs was 1:9:int, is not set"):
        opened(tmp_path, SEARCH[:1])


def test_an_entry_cut_short_is_left_out(tmp_path: Path) -> None:
    study = opened(tmp_path, limit=2)
    finished(study)
    journal = tmp_path / "study.journal"
    with journal.open("ab") as file:
        file.write(b'{"op_code": 4, "wor')
    assert len(finished(opened(tmp_path, limit=3))) == 3


@pytest.mark.parametrize(
    ("storage", "expected"),
    [("notes.txt", "not a journal of Optuna"), ("x://y", "cannot be used"), (".", "cannot be used")],
)
def test_a_storage_of_another_kind_is_refused_and_unchanged(tmp_path: Path, storage: str, expected: str) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("do not\nlose this")
    with pytest.raises(UsageError, match=expected):
        opened(tmp_path, storage=storage)
    assert notes.read_text() == "do not\nlose this"


@pytest.mark.parametrize("third", [False, True])
def test_a_lock_that_is_released_while_another_process_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, third: bool
) -> None:
    path, others = tmp_path / "lock", []
    claim = Claim.take(path)
    assert claim is not None

    def late(descriptor: int, how: int) -> None:
        monkeypatch.undo()
        claim.release()
        if third:
            others.append(Claim.take(path))
        fcntl.flock(descriptor, how)

    monkeypatch.setattr("phaze_ee.sweep.claim.fcntl.flock", late)
    others.append(Claim.take(path))
    assert [other is not None for other in others] == ([True, False] if third else [True])
    assert Claim.take(path) is None


def test_a_lock_lives_as_long_as_a_process_that_inherited_it(tmp_path: Path) -> None:
    claim = Claim.take(tmp_path / "lock")
    assert claim is not None
    inherited = os.dup(claim.descriptor)
    os.close(claim.descriptor)
    assert Claim.take(tmp_path / "lock") is None
    os.close(inherited)
    assert Claim.take(tmp_path / "lock") is not None
