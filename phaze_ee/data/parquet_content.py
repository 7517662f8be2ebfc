"""What pyarrow does not check in a parquet file before it reads it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from phaze_ee.errors import DataError

if TYPE_CHECKING:
    import pyarrow.parquet


def check_chunks(path: Path, file: "pyarrow.parquet.ParquetFile", groups: Sequence[int]) -> None:
    """Check that the chunks of some row groups have the types of their columns.

    Where they have not, pyarrow ends the process instead of raising an exception.

    Raises:
        DataError: a chunk has another type; the file is damaged.
    """
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
