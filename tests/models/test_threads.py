"""Threads of an engine, and the parts of one piece of work that they share."""

import copy
import pickle
import threading
import weakref
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection

import pytest
import torch

from phaze_ee.models.threads import ThreadTeam, share


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("pieces", [1, 5])
def test_every_part_of_every_piece_is_done_once(threads: int, pieces: int) -> None:
    def run(piece: int, first: int) -> list[int]:
        done: list[int] = []

        def work(parts: Iterator[int]) -> None:
            done.extend(parts)

        share(range(first, first + 100 * piece), work)
        return sorted(done)

    sizes, firsts = list(range(pieces)), [7] * pieces
    answers = ThreadTeam(threads).map(run, sizes, firsts)
    assert answers == [list(range(7, 7 + 100 * piece)) for piece in sizes]


def test_an_idle_thread_helps_in_inference_mode() -> None:
    both_at_work = threading.Barrier(2, timeout=10)
    modes: list[tuple[bool, int]] = []

    def work(parts: Iterator[int]) -> None:
        for _ in parts:
            both_at_work.wait()  # fails unless two threads get here
            modes.append((torch.is_inference_mode_enabled(), torch.get_num_threads()))

    ThreadTeam(2).map(lambda _: share(range(2), work), [None])
    assert modes == [(True, 1)] * 2


def test_what_goes_wrong_in_a_helping_thread_is_raised() -> None:
    both_at_work = threading.Barrier(2, timeout=10)

    def work(parts: Iterator[int]) -> None:
        for part in parts:
            both_at_work.wait()
            if part == 1:
                raise ValueError("part 1")

    with pytest.raises(ValueError, match="part 1"):
        ThreadTeam(2).map(lambda _: share(range(2), work), [None])


def test_work_that_nobody_helped_with_is_forgotten() -> None:
    all_at_work = threading.Barrier(2, timeout=10)

    def run(_: int) -> bool:
        all_at_work.wait()  # no thread is idle
        tensor = torch.zeros(3)
        remembered = weakref.ref(tensor)

        def work(parts: Iterator[int], used: list[torch.Tensor] = [tensor]) -> None:  # noqa: B006
            used[0] += sum(parts)

        share(range(5), work)
        del tensor, work
        gone = remembered() is None
        all_at_work.wait()
        return gone

    assert ThreadTeam(2).map(run, [0, 1]) == [True, True]


def test_without_a_crew_the_caller_does_all_parts() -> None:
    done: list[int] = []
    share(range(3), done.extend)
    assert done == [0, 1, 2]


def _answer(team: ThreadTeam, output: Connection) -> None:
    output.send(team.map(abs, [-1, -2, -3]))


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    team = ThreadTeam(2)
    assert team.map(abs, [-1, -2, -3]) == [1, 2, 3]
    parent, child = get_context("fork").Pipe()
    process = get_context("fork").Process(target=_answer, args=(team, child))
    process.start()
    try:
        assert parent.poll(20), "the child waits for threads of its parent"
        assert parent.recv() == [1, 2, 3]
    finally:
        process.kill()
        process.join()


def test_a_team_is_copied_with_its_number_of_threads() -> None:
    team = ThreadTeam(2)
    team.map(abs, [-1, -2])
    for copied in (pickle.loads(pickle.dumps(team)), copy.deepcopy(team)):
        assert copied.threads == 2
        assert copied.map(abs, [-1, -2]) == [1, 2]
