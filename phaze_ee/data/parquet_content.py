"""What pyarrow does not check in a parquet file before it reads it."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from phaze_ee.errors import DataError

if TYPE_CHECKING:
    import pyarrow.parquet

_SCHEMA = b"ARROW:schema"  # where Arrow keeps the types that it wrote


def check_chunks(path: Path, file: "pyarrow.parquet.ParquetFile", groups: Sequence[int]) -> None:
    """Check that columns are those that Arrow wrote, and that the chunks of some row groups have their types.

    Where it is not so, pyarrow ends the process instead of raising an exception.

    Raises:
        DataError: a column or a chunk has another type; the file is damaged.
    """
    _check_levels(path, file)
    columns = [file.schema.column(index) for index in range(file.metadata.num_columns)]
    for group in groups:
        chunks = file.metadata.row_group(group)
        for index, column in enumerate(columns):
            found = chunks.column(index).physical_type
            if found != column.physical_type:
                raise DataError(
                    f"{path}: row group {group} has {found} numbers in column {column.path}, which holds "
                    f"{column.physical_type}; the file is damaged: copy or download it again"
                )


def _check_levels(path: Path, file: "pyarrow.parquet.ParquetFile") -> None:
    """Check the structure of columns, for which the file has statistics of each chunk.

    Raises:
        DataError: the schema of the file says other than the one that Arrow wrote beside it.
    """
    import pyarrow.parquet

    stored = (file.metadata.metadata or {}).get(_SCHEMA)
    if stored is None:
        return
    try:
        written = pyarrow.ipc.read_schema(pyarrow.py_buffer(base64.b64decode(stored)))
        expected = _as_parquet(written)
    except (ValueError, OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: its schema cannot be read; the file is damaged: copy or download it again") from error
    if _levels(file.schema) != _levels(expected):
        raise DataError(
            f"{path}: its columns are not those that were written; the file is damaged: copy or download it again"
        )


def _as_parquet(schema: "pyarrow.Schema") -> "pyarrow.parquet.ParquetSchema":
    """Return the schema of the file that pyarrow writes for a schema of Arrow."""
    import pyarrow.parquet

    buffer = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(schema.empty_table(), buffer)
    return pyarrow.parquet.ParquetFile(buffer.getvalue()).schema


def _levels(schema: "pyarrow.parquet.ParquetSchema") -> list[tuple[int, int, bool]]:
    """Return for each column how deep it is, in values that may be missing and in lists, and whether it holds bytes."""
    columns = [schema.column(index) for index in range(len(schema))]
    return [(own.max_definition_level, own.max_repetition_level, own.physical_type == "BYTE_ARRAY") for own in columns]
