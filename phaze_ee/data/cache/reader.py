"""Finds the cache of some files and a data configuration, and describes its jets."""

import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, PositiveInt, model_validator

from phaze_ee.data.bad_values import BadValues
from phaze_ee.data.cache.shards import Shard, ShardReader
from phaze_ee.data.epochs import EpochPlan
from phaze_ee.data.files import fingerprint
from phaze_ee.data.jet_columns import InputLayout
from phaze_ee.data.schema import DataSchema
from phaze_ee.data.table import Span
from phaze_ee.errors import DataError

VERSION = 2  # of the format
MANIFEST = "manifest.json"
_REMEDY = "repair it with phaze_ee -m convert, or set c.use_cache = 'never'"


class Contents(BaseModel):
    """What a cache holds.

    ``options`` is the data configuration, with standardisation and reweighting computed from the training files.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    version: int
    key: str
    training: bool
    labelled: bool
    block_jets: PositiveInt
    options: dict[str, Any]
    files: list[str]
    shards: list[Shard]

    def crc32(self) -> int:
        """Return the CRC-32 of the contents."""
        content = self.model_dump(exclude={"checksum"})
        for shard in content["shards"]:
            if shard["classes"] is None:  # older versions had no such field, and hashed none
                del shard["classes"]
        return zlib.crc32(json.dumps(content).encode())

    def sealed(self) -> "Manifest":
        """Return the manifest of the contents, with their checksum."""
        return Manifest(**{**dict(self), "checksum": self.crc32()})


class Manifest(Contents):
    """The file that describes a cache. It is written last: a folder without a manifest is not a cache yet."""

    checksum: int  # of the contents

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.checksum != self.crc32():
            raise ValueError("the checksum is wrong")
        return self


@dataclass(frozen=True)
class Cache:
    """A complete cache on disk: the jets of some files, shuffled for training or in input order for evaluation.

    ``trusted`` are the expressions that may be any Python, and ``bad_values`` says what becomes of inputs that are NaN
    or infinite, see :class:`DataSchema`.
    """

    folder: Path
    manifest: Manifest
    trusted: frozenset[str] = frozenset()
    bad_values: BadValues = "refuse"

    @cached_property
    def schema(self) -> DataSchema:
        """The data configuration."""
        return DataSchema.from_options(
            self.manifest.options, str(self.folder / MANIFEST), self.trusted, self.bad_values
        )

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """The blocks of all shards, in order."""
        step = self.manifest.block_jets
        return tuple(
            Span(self.folder / shard.name, start, min(start + step, shard.jets))
            for shard in self.manifest.shards
            for start in range(0, shard.jets, step)
        )

    @property
    def reader(self) -> ShardReader:
        """Reads the spans of the cache."""
        checksums = {self.folder / shard.name: shard.checksum for shard in self.manifest.shards}
        return ShardReader(InputLayout.all_of(self.schema), self.manifest.block_jets, checksums)

    @property
    def jet_count(self) -> int:
        """The number of jets."""
        return sum(shard.jets for shard in self.manifest.shards)

    def jets_of_classes(self) -> list[int] | None:
        """Return the number of jets of each class; None: an older version made the cache, and did not count them.

        Raises:
            DataError: the manifest counts jets of more classes than the data configuration has.
        """
        totals = [0] * len(self.schema.class_names)
        for shard in self.manifest.shards:
            if shard.classes is None:
                return None
            if len(shard.classes) > len(totals):
                raise DataError(
                    f"{self.folder / MANIFEST}: {shard.name} has jets of {len(shard.classes)} classes, and the data "
                    f"config has {len(totals)}; delete the cache, and convert again"
                )
            for index, jets in enumerate(shard.classes):
                totals[index] += jets
        return totals

    @property
    def byte_count(self) -> int:
        """The size of all shards on disk."""
        return sum(shard.bytes for shard in self.manifest.shards)

    def plan(self) -> EpochPlan:
        """Return the number of jets that each block gives in an epoch.

        Raises:
            DataError: every jet has sampling weight 0.
        """
        sums = [weight for shard in self.manifest.shards for weight in shard.weight_sums or []]
        counts = [span.stop - span.start for span in self.spans]
        return EpochPlan.of_counts(self.spans, counts, sums if self.schema.weaver.weight_name else None)


def cache_key(schema: DataSchema, files: Sequence[Path], *, training: bool, labelled: bool) -> str:
    """Return a hash of the data configuration, of the names, sizes and modification times of files, and of the purpose.

    Raises:
        DataError: a file does not exist.
    """
    content = f"{VERSION} {training} {labelled} {fingerprint(files, schema)}"
    return hashlib.sha256(content.encode()).hexdigest()


def cache_folder(root: Path, key: str, *, training: bool) -> Path:
    """Return the folder of the cache with a key, in the folder ``root`` of all caches."""
    return root / f"{'training' if training else 'evaluation'}_{key[:16]}"


def find_cache(
    root: Path, schema: DataSchema, files: Sequence[Path], *, training: bool, labelled: bool = True
) -> Cache | None:
    """Return the cache of files, as they are now, for a data configuration; None if there is none.

    Args:
        root: the folder of all caches.
        schema: the data configuration; for training, as the YAML has it; for evaluation, resolved.
        files: the files, in the order of reading.
        training: look for jets for training; otherwise for evaluation.
        labelled: look for jets with labels.

    Raises:
        DataError: a file does not exist, or the cache is damaged.
    """
    key = cache_key(schema, files, training=training, labelled=labelled)
    folder = cache_folder(root, key, training=training)
    if not (folder / MANIFEST).is_file():
        return None
    manifest = read_manifest(folder)
    if manifest.key != key:
        raise DataError(f"cache {folder} is of another data config or of other files; delete it, or {_REMEDY}")
    for shard in manifest.shards:
        _check_size(folder / shard.name, shard.bytes)
    return Cache(folder, manifest, schema.trusted, schema.bad_values)


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a cache.

    Raises:
        DataError: it cannot be read.
    """
    path = folder / MANIFEST
    try:
        return Manifest.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} of the cache cannot be read: it is damaged; {_REMEDY}") from error


def _check_size(path: Path, expected: int) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path} of the cache is missing; {_REMEDY}") from error
    if size != expected:
        raise DataError(f"{path} of the cache is damaged: it has {size} bytes instead of {expected}; {_REMEDY}")
