"""Where the curves of a training go: TensorBoard, or another logger of Lightning; and what happens if that fails."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CometLogger, CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.summary.writer.event_file_writer import _AsyncWriterThread
from torch.utils.tensorboard.summary import hparams

from phaze_ee.config.options import LoggingOptions
from phaze_ee.errors import RunError, UsageError, one_line
from phaze_ee.installation import extra_command

# The module that a logger needs. The extra has the name of the logger.
_MODULES = {"wandb": "wandb", "mlflow": "mlflow", "comet": "comet_ml"}
_SHOWN_WITH_OPTIONS = "val/accuracy/full_model"  # in TensorBoard's table of options


def logger_name(options: LoggingOptions) -> str | None:
    """Return the logger that the options choose; None: no logger."""
    return None if options.logger == "tensorboard" and not options.tensorboard else options.logger


def open_logger(options: LoggingOptions, folder: Path, project: str, hidden_from: int | None) -> Logger | None:
    """Return the logger of a training, opened, so that a place without write access is noticed at once.

    TensorBoard continues the curves of a training that is resumed. The other loggers start a new run. All get the
    options as hyperparameters.

    Args:
        options: name the logger.
        folder: for the files of loggers that write files.
        project: its name, ``WORKSPACE/PROJECT``.
        hidden_from: hide the curves in earlier files of TensorBoard from this step on; None: show them.

    Raises:
        UsageError: a package is missing.
        RunError: the curves cannot be written.
    """
    name = logger_name(options)
    if name is None:
        return None
    _require(name)
    with reporting_lost_curves(options, folder):
        logger = _made(name, folder, project, hidden_from)
        assert getattr(logger, "experiment", None) is not None  # opens the file or the run
        _log_options(logger, options.model_dump(mode="json"))
    return logger


def _made(name: str, folder: Path, project: str, hidden_from: int | None) -> Logger:
    workspace, _, own = project.partition("/")
    folder.mkdir(parents=True, exist_ok=True)
    match name:
        case "csv":
            return CSVLogger(folder, "csv")
        case "mlflow":
            uri = os.environ.get("MLFLOW_TRACKING_URI")
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # newer versions want a server or a database
            return MLFlowLogger(workspace, run_name=own, tracking_uri=uri, save_dir=str(folder.absolute() / "mlruns"))
        case "wandb":
            return WandbLogger(name=own, project=workspace, save_dir=folder)
        case "comet":
            return CometLogger(project=workspace, name=own, offline_directory=str(folder))
        case _:
            return TensorBoardLogger(folder, "train", version="", default_hp_metric=False, purge_step=hidden_from)


@rank_zero_only
def _log_options(logger: Logger, values: dict[str, Any]) -> None:
    logger.log_hyperparams(values)
    if isinstance(logger, TensorBoardLogger):  # so far in a YAML file only, because no value of a metric is known yet
        plain = {name: value if isinstance(value, bool | int | float) else str(value) for name, value in values.items()}
        for part in hparams(plain, {_SHOWN_WITH_OPTIONS: 0.0}):  # type: ignore[no-untyped-call]  # uses the name
            logger.experiment.file_writer.add_summary(part)
        logger.experiment.flush()  # a thread writes; a full disk must show while its errors are waited for


def _require(name: str) -> None:
    if name in _MODULES and find_spec(_MODULES[name]) is None:
        raise UsageError(
            f"c.logger = {name!r} needs the package {_MODULES[name]}, which is not installed; install it, "
            f"{extra_command(name)}"
        )


@contextmanager
def reporting_lost_curves(options: LoggingOptions, folder: Path) -> Iterator[None]:
    """Report in one line that curves could not be written, without the traceback of a thread of TensorBoard.

    Raises:
        RunError: the curves could not be written.
    """
    name = logger_name(options)
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
    except _errors_of(name) as error:
        raise RunError(
            f"c.logger = {name!r} cannot write the curves of the training: {one_line(error)}; see its own settings, or "
            "choose another c.logger"
        ) from error
    except OSError as error:
        if error not in failures and not _concerns(error, folder):
            raise
        raise _unwritable(name, folder, error) from error
    finally:
        threading.excepthook = usual


def _errors_of(name: str | None) -> tuple[type[BaseException], ...]:
    """Return the base class of the errors of a logger's package."""
    match name:
        case "mlflow":
            from mlflow.exceptions import MlflowException

            return (MlflowException,)
        case "wandb":
            from wandb.errors import Error

            return (Error,)
        case "comet":
            from comet_ml.exceptions import CometException

            return (CometException,)
    return ()


def _concerns(error: OSError, folder: Path) -> bool:
    return isinstance(error.filename, str) and Path(error.filename).absolute().is_relative_to(folder.absolute())


def _unwritable(name: str | None, folder: Path, error: OSError) -> RunError:
    reason, usual = error.strerror or str(error), name == "tensorboard"
    title, place = ("TensorBoard", folder / "train") if usual else (f"c.logger = {name!r}", folder)
    remedy = "c.tensorboard = False" if usual else "c.logger = None"
    return RunError(
        f"cannot write curves for {title} to {place}: {reason}; free space or check permissions, or set {remedy}"
    )
