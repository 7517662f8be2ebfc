"""Checks the part of an HDF5 file that holds lists of variable length, before the HDF5 library reads them.

The library follows the sizes that it finds there, and runs for ever if one of them is zero. Python cannot interrupt it.
The format is that of the HDF5 File Format Specification, section III.E "Global Heap".
"""

import mmap
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

_COLLECTION = b"GCOL\x01\x00\x00\x00"  # signature and version
_ALIGNMENT = 8  # bytes; objects are padded to it


@lru_cache  # a file is opened again for each of its spans
def check_heaps(path: Path, stamp: tuple[int, int], length_bytes: int) -> None:
    """Refuse a file in which the sizes of lists of variable length lead nowhere.

    Args:
        path: an HDF5 file.
        stamp: its size and modification time: a file is checked once, until it changes.
        length_bytes: the bytes of a length in this file.

    Raises:
        ValueError: a size is not possible.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for start in _collections(content):
            _check_collection(content, start, length_bytes)


def _collections(content: mmap.mmap) -> Iterator[int]:
    start = content.find(_COLLECTION)
    while start >= 0:
        yield start
        start = content.find(_COLLECTION, start + 1)


def _check_collection(content: mmap.mmap, start: int, length_bytes: int) -> None:
    header = 8 + length_bytes  # of the collection and of each object
    size = int.from_bytes(content[start + 8 : start + header], "little")
    end, place = start + size, start + header
    if end > len(content):
        raise ValueError(f"a list of numbers is damaged (byte {start})")
    while place + header <= end:
        index = int.from_bytes(content[place : place + 2], "little")
        own = int.from_bytes(content[place + 8 : place + header], "little")
        # The free space has index 0, and its size includes the header.
        step = own if index == 0 else header + own + -own % _ALIGNMENT
        if step < header or place + step > end:
            raise ValueError(f"a list of numbers is damaged (byte {place})")
        place += step
