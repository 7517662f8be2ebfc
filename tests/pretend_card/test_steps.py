"""Kernels and training steps on CUDA, on the card that is not there."""

from pathlib import Path

from tests.pretend_card.running import passed


def test_steps_are_those_of_the_cpu(hooks: Path) -> None:
    assert passed(hooks, "tests/training/test_cuda.py", "-k", "answers or step") == 4


def test_kernels(hooks: Path) -> None:
    assert passed(hooks, "tests/kernels", "--ignore=tests/kernels/test_without_card.py") > 200
