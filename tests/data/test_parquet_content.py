"""Damaged parquet files are an error in one line; pyarrow alone would end the process."""

import base64
import subprocess
import sys
from pathlib import Path

import awkward as ak
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phaze_ee.data.parquet_content import check_chunks
from phaze_ee.errors import DataError

CHECK = """
import sys
from pathlib import Path
import pyarrow.parquet as pq
from phaze_ee.data.parquet_content import check_chunks
from phaze_ee.errors import DataError
from phaze_ee.data.sources import READ_ERRORS
damaged, whole = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes()
found = 0
for place in range(len(whole) - 900, len(whole), 2):
    for bit in (0x10, 0x01):
        damaged.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        try:
            with pq.ParquetFile(damaged) as file:
                check_chunks(damaged, file, range(file.num_row_groups))
        except (*READ_ERRORS, DataError):
            found += 1
print(found)
"""


def test_no_flipped_bit_of_the_footer_ends_the_process(tmp_path: Path) -> None:
    columns = {"number": [1.0, 2.0, 3.0], "flag": [True, False, True]}
    pq.write_table(pa.table(columns), tmp_path / "jets.parquet", compression="zstd")
    words = [sys.executable, "-c", CHECK, str(tmp_path / "damaged.parquet"), str(tmp_path / "jets.parquet")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    assert int(done.stdout) > 50


def test_files_of_many_kinds_are_whole(tmp_path: Path) -> None:
    array = ak.Array({"lists": [[1.0], [], [2.0]], "records": [{"a": 1}] * 3, "text": ["a", "b", None]})
    ak.to_parquet(array, tmp_path / "awkward.parquet")
    stamps = pa.array([1, 2, None], pa.timestamp("ns"))
    kinds = {
        "stamps": stamps,
        "words": pa.array(["a", "a", "b"]).dictionary_encode(),
        "half": pa.array([1, 2, 3], pa.float16()),
    }
    pq.write_table(
        pa.table(kinds | {"fixed": pa.array([[1, 2]] * 3, pa.list_(pa.int8(), 2))}), tmp_path / "arrow.parquet"
    )
    for path in tmp_path.iterdir():
        with pq.ParquetFile(path) as file:
            check_chunks(path, file, range(file.num_row_groups))


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    path = tmp_path / "jets.parquet"
    schema = pa.schema([pa.field("number", pa.float32())])
    pq.write_table(pa.table({"number": pa.array([1.0, 2.0], pa.float32())}, schema=schema), path)
    other = pa.schema([pa.field("number", pa.float32(), nullable=False)])
    content = path.read_bytes()
    before, after = (base64.b64encode(own.serialize().to_pybytes()) for own in (schema, other))
    assert len(before) == len(after)
    assert before in content
    path.write_bytes(content.replace(before, after))
    with (
        pq.ParquetFile(path) as file,
        pytest.raises(DataError, match=r"its columns are not those that were written; the file"),
    ):
        check_chunks(path, file, [0])
