"""Writes the curves of a training for TensorBoard, and reports if they cannot be written."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.summary.writer.event_file_writer import _AsyncWriterThread

from phaze_ee.errors import RunError


def open_curves(folder: Path, hidden_from: int | None) -> TensorBoardLogger:
    """Return the logger of TensorBoard, with its file open, so that a folder without write access is noticed at once.

    Args:
        folder: the file is written to its subfolder ``train``.
        hidden_from: hide the curves in earlier files from this step on; None: show them.

    Raises:
        RunError: the file cannot be written.
    """
    logger = TensorBoardLogger(folder, "train", version="", purge_step=hidden_from)
    try:
        assert logger.experiment is not None  # opens the file
    except OSError as error:
        raise _unwritable(folder, error) from error
    return logger


@contextmanager
def reporting_lost_curves(folder: Path) -> Iterator[None]:
    """Report a full disk as one line, without the traceback that the thread of TensorBoard would print.

    Raises:
        RunError: the curves could not be written.
    """
    usual = threading.excepthook
    failures: list[BaseException | None] = []

    def note(arguments: threading.ExceptHookArgs) -> None:
        if isinstance(arguments.thread, _AsyncWriterThread) and isinstance(arguments.exc_value, OSError):
            failures.append(arguments.exc_value)  # it is raised again when the next number is written
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
