"""Fixtures that several test packages share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Small tensors gain nothing from threads, and test processes run side by side. Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Without a GPU, Triton runs its kernels on the CPU. It asks when it is imported, which torch.compile does too.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# Machines are noisy: no test fails for being slow. In CI the examples are the same on every run.
settings.register_profile("house", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("house")


def pytest_configure(config: pytest.Config) -> None:
    """Keep what tests compile between runs, and away from the user's own cache."""
    if config.pluginmanager.hasplugin("cacheprovider"):
        os.environ.setdefault("PHAZE_EE_CACHE", str(config.cache.mkdir("phaze_ee")))


# Files with few long tests. They come first, so that no process is left with one of them at the end.
LONG = ("pretend_card", "fuzz", "end_to_end", "test_extending.py", "training", "benchmark", "modes")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let files with long tests run first."""
    order = {name: place for place, name in enumerate(LONG)}
    folder = Path(__file__).parent
    items.sort(key=lambda item: order.get(item.path.relative_to(folder).parts[0], len(LONG)))


SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with published weights and real jets, which is not part of the project."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared (published weights and real jets), which is not part of the project")
    return SHARED
