"""The base of results files: typed records, written as JSON."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from phaze_ee.atomic import remove_abandoned, replacing
from phaze_ee.errors import UsageError
from phaze_ee.machine import Precision
from phaze_ee.names import FULL_MODEL

SCHEMA_VERSION: Literal[1] = 1
_EXIT_KEY = re.compile(rf"exit_\d+|{FULL_MODEL}")


class Record(BaseModel):
    """Base of all records of a results file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=True, ser_json_inf_nan="constants")


RecordT = TypeVar("RecordT", bound=Record)


@dataclass(frozen=True)
class Provenance:
    """Where results come from.

    Attributes:
        project: the name of the project.
        model: the file and epoch of the weights, in words.
        model_hash: the hash of the file with the weights; None if unknown.
        files: the files of the jets.
        notes: what a reader of the results should know.
        data_hash: the hash of the data configuration and of the names, sizes and times of the files; None if unknown.
        history_hash: the hash of the training history of the project; None without one.
        precision: of the products of the network; None if unknown.
        rows_hash: the hash of what selects the jets from the files; None if unknown.
    """

    project: str
    model: str
    model_hash: str | None
    files: Sequence[Path]
    notes: Sequence[str] = ()
    data_hash: str | None = None
    history_hash: str | None = None
    precision: Precision | None = None
    rows_hash: str | None = None


class ResultsFile(Record):
    """A results file with its version."""

    schema_version: Literal[1] = SCHEMA_VERSION

    def write(self, path: Path) -> None:
        """Write the file; an older one is replaced only by a complete one.

        Raises:
            RunError: it cannot be written.
        """
        remove_abandoned(path.parent)
        with replacing(path) as temporary:
            temporary.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path, made_by: str) -> Self:
        """Read a results file.

        Args:
            path: the file.
            made_by: the mode that writes it, which an error names.

        Raises:
            UsageError: the file does not exist, or is not a results file of this version.
        """
        return cls.read_hashed(path, made_by)[0]

    @classmethod
    def read_hashed(cls, path: Path, made_by: str) -> tuple[Self, str]:
        """Read a results file as :meth:`read` does, and return the SHA-256 of the bytes that were read with it."""
        try:
            content = path.read_bytes()
            return cls.model_validate_json(content), hashlib.sha256(content).hexdigest()
        except FileNotFoundError as error:
            raise UsageError(f"{path} does not exist yet; run mode {made_by!r} first") from error
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}") from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            problem = f"{where}: {first['msg']}" if where else first["msg"]
            raise UsageError(
                f"{path} is not a results file of this version ({problem}); run mode {made_by!r} again"
            ) from error


class Traced(ResultsFile):
    """A results file with the hashes of what it rests on; None: unknown, or it plays no part.

    ``model_hash`` is the SHA-256 of the file with the weights; None for a network with random weights. ``data_hash`` is
    that of the data configuration and of the names, sizes and times of the files with the jets. ``history_hash`` is the
    SHA-256 of the training history, ``policy_hash`` that of the file of the exit policy.
    """

    model_hash: str | None = None
    data_hash: str | None = None
    history_hash: str | None = None
    policy_hash: str | None = None


class ExitResultsFile(Traced, Generic[RecordT]):
    """A results file with one record per exit; in JSON the records are at the top level, by the names of the exits."""

    exits: dict[str, RecordT]

    @model_serializer(mode="wrap")
    def _flatten(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = handler(self)
        return {**data.pop("exits"), **data}

    @model_validator(mode="before")
    @classmethod
    def _collect(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "exits" in data:
            return data
        exits = {name: value for name, value in data.items() if _EXIT_KEY.fullmatch(name)}
        return {**{name: value for name, value in data.items() if name not in exits}, "exits": exits}
