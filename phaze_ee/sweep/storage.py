"""The storage of a study, the check of its terms, and the locks of trials.

Trials are shared through files. The journal of Optuna, which works on NFS and is five times as fast as SQLite (0.1 s
per trial against 0.5 s), says what was drawn; a lock for each trial says who works on it. So a killed sweep leaves no
trial that nobody takes up, and none that two work on. There is no scheduler of our own: the tasks of an array job run
the same command.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock, JournalStorage
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from phaze_ee.errors import UsageError, one_line
from phaze_ee.workspace import home_path

_TERMS, _SEED = "terms", "seed"
_STORAGE_ERRORS = (
    SQLAlchemyError, optuna.exceptions.OptunaError, ImportError, OSError, ValueError, KeyError, TypeError,
)  # fmt: skip


def open_study(storage: str, name: str, folder: Path, terms: Mapping[str, Any], seed: int) -> tuple[optuna.Study, int]:
    """Open a study, create it if needed, and return it with its seed.

    Args:
        storage: a journal file, or the URL of a database (``sqlite:///…``, ``postgresql://…``).
        name: of the study within the storage.
        folder: of the lock of the study.
        terms: what must be equal for trials to be comparable, as plain values in groups: the space, the objective and
            the configuration.
        seed: of a new study.

    Raises:
        UsageError: the storage cannot be used, or has a study of this name with other terms.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "study.lock"):
        try:
            study = optuna.create_study(
                storage=_opened(storage), study_name=name, direction="maximize", load_if_exists=True
            )
            attributes = study.user_attrs
            if _TERMS not in attributes:
                study.set_user_attr(_SEED, seed)
                study.set_user_attr(_TERMS, dict(terms))
                return study, seed
        except _STORAGE_ERRORS as error:
            raise UsageError(f"--storage {storage} cannot be used: {one_line(error)}") from error
    differences = "; ".join(_differences(attributes[_TERMS], json.loads(json.dumps(terms))))
    if differences:
        raise UsageError(
            f"study {name} in {storage} was created with other settings: {differences}; choose another --study NAME"
        )
    return study, int(attributes[_SEED])


def _opened(storage: str) -> BaseStorage:
    if "://" in storage:
        return RDBStorage(storage, engine_kwargs={"poolclass": NullPool})  # closes each connection after its use
    # The path must be absolute: Optuna recognises the lock of a dead process by a link to it.
    path = home_path(storage).absolute()
    lock = JournalFileSymlinkLock(str(path))
    lock.acquire()
    try:
        _mend(path)
    finally:
        lock.release()
    return JournalStorage(JournalFileBackend(str(path), lock))


def _mend(path: Path) -> None:
    """Remove an incomplete last line, left by a full disk or a crash: Optuna cannot read what follows it.

    Raises:
        ValueError: the file is not a journal.
    """
    if not path.exists() or not path.stat().st_size:
        return
    with path.open("rb+") as file:
        if b'"op_code"' not in file.readline():
            raise ValueError("it is not a journal of Optuna; name a new file")
        file.seek(0)
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole != len(content):
            logging.getLogger(__name__).warning("%s: the last entry is cut short and left out", path)
            file.truncate(whole)


def _differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the differences of two nested mappings, each as "name was this, is that"."""
    found = []
    for name in {**was, **now}:
        before, after = was.get(name, "not set"), now.get(name, "not set")
        if isinstance(before, dict) and isinstance(after, dict):
            found += [f"{name} {difference}" for difference in _differences(before, after)]
        elif before != after:
            found.append(f"{name} was {before}, is {after}")
    return found
