"""Where a study is kept, and that it is the one that is asked for."""

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

from phaze_ee.errors import UsageError, one_line

_TERMS, _SEED = "terms", "seed"
_STORAGE_ERRORS = (
    SQLAlchemyError, optuna.exceptions.OptunaError, ImportError, OSError, ValueError, KeyError, TypeError,
)  # fmt: skip


def open_study(storage: str, name: str, folder: Path, terms: Mapping[str, Any], seed: int) -> tuple[optuna.Study, int]:
    """Open a study, or make it, and return it with the seed that it was made with.

    Args:
        storage: a journal file, or the URL of a database (``sqlite:///…``, ``postgresql://…``).
        name: of the study within the storage.
        folder: where the lock of the study lies.
        terms: what makes trials comparable, as plain values, in groups: the space, the objective, the configuration.
        seed: of a study that is new.

    Raises:
        UsageError: the storage cannot be used, or holds a study of that name that was made with other terms.
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
        raise UsageError(f"study {name} in {storage} was made otherwise: {differences}; choose another --study NAME")
    return study, int(attributes[_SEED])


def _opened(storage: str) -> BaseStorage:
    if "://" in storage:
        return RDBStorage(storage)
    # Absolute: Optuna recognises the lock of a dead process by a link to this path, which must lead there.
    path = Path(storage).expanduser().absolute()
    lock = JournalFileSymlinkLock(str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    lock.acquire()
    try:
        _mend(path)
    finally:
        lock.release()
    return JournalStorage(JournalFileBackend(str(path), lock))


def _mend(path: Path) -> None:
    """Take off a last line that was cut short by a full disk or a crash; Optuna could not read on behind it.

    Raises:
        ValueError: the file is something else than a journal.
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
    """Return what differs between two nested mappings, each as "name was this, is that"."""
    found = []
    for name in {**was, **now}:
        before, after = was.get(name, "not set"), now.get(name, "not set")
        if isinstance(before, dict) and isinstance(after, dict):
            found += [f"{name} {difference}" for difference in _differences(before, after)]
        elif before != after:
            found.append(f"{name} was {before}, is {after}")
    return found
