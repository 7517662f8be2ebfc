"""Typed results, written as JSON in whole or not at all."""

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

from phaze_ee.atomic import replacing
from phaze_ee.errors import UsageError

SCHEMA_VERSION: Literal[1] = 1
_EXIT_KEY = re.compile(r"exit_\d+|full_model")


class Record(BaseModel):
    """Base of everything that a results file holds."""

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
    """

    project: str
    model: str
    model_hash: str | None
    files: Sequence[Path]
    notes: Sequence[str] = ()


class ResultsFile(Record):
    """A results file."""

    schema_version: Literal[1] = SCHEMA_VERSION

    def write(self, path: Path) -> None:
        """Write the file, replacing an older one only when the new one is complete."""
        with replacing(path) as temporary:
            temporary.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path, made_by: str) -> Self:
        """Read a file back.

        Raises:
            UsageError: it is not there yet, or is not a results file of this version.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise UsageError(f"{path} does not exist yet; run mode {made_by!r} first") from error
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}") from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise UsageError(
                f"{path} is not a results file of this version ({where}: {first['msg']}); run mode {made_by!r} again"
            ) from error


class ExitResultsFile(ResultsFile, Generic[RecordT]):
    """A results file with one record per exit; in JSON the records stand at the top level under the exits' names."""

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
