"""The curves of a training for TensorBoard, and what happens when they cannot be written."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.summary.writer.event_file_writer import _AsyncWriterThread

from phaze_ee.errors import RunError


def open_curves(folder: Path, hidden_from: int | None) -> TensorBoardLogger:
    """Open TensorBoard's file now: later, a folder that cannot be written would end a training that has begun.

    Args:
        folder: the file goes to ``train`` below it.
        hidden_from: the step from which earlier files of that folder are hidden; None: they are not.

    Raises:
        RunError: it cannot be written.
    """
    logger = TensorBoardLogger(folder, "train", version="", purge_step=hidden_from)
    try:
        assert logger.experiment is not None  # opens the file
    except OSError as error:
        raise _unwritable(folder, error) from error
    return logger


@contextmanager
def reporting_lost_curves(folder: Path) -> Iterator[None]:
    """Make one line of a full disk; TensorBoard's thread would print a traceback too.

    Raises:
        RunError: the curves could not be written.
    """
    usual = threading.excepthook
    failures: list[BaseException | None] = []

    def note(arguments: threading.ExceptHookArgs) -> None:
        if isinstance(arguments.thread, _AsyncWriterThread) and isinstance(arguments.exc_value, OSError):
            failures.append(arguments.exc_value)  # it is raised again where the next number is written
        else:
            usual(arguments)

    threading.excepthook = note
    try:
        yield
    except OSError as error:
        if error not in failures:
            raise
        raise _unwritable(folder, error) from error
    finally:
        threading.excepthook = usual


def _unwritable(folder: Path, error: OSError) -> RunError:
    reason = error.strerror or str(error)
    return RunError(
        f"cannot write curves for TensorBoard to {folder / 'train'}: {reason}; free space or check permissions, or set "
        "c.tensorboard = False"
    )
