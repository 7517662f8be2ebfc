"""What a ROOT file holds, and its RNTuples: the successors of TTrees, which uproot reads with another interface."""

import struct
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uproot
import xxhash

from phaze_ee.data.stamps import stamp
from phaze_ee.errors import DataError

RNTUPLE = "ROOT::RNTuple"
TREES = ("TTree", "TNtuple", "TNtupleD", RNTUPLE)  # classes with rows that can be read

# uproot unpacks whole clusters, of 100,000 jets or more, to return some rows. Unpacked columns are kept for the next.
_UNPACKED = uproot.LRUArrayCache("512 MB")
_CHECKSUM = struct.Struct("<Q")
_MOST_NAMES = 6  # in a message


def chosen_tree(path: Path, classes: Mapping[str, str], treename: str | None) -> str:
    """Return the key of the tree to read.

    Args:
        path: the file, for errors.
        classes: the class of each key of the file; keys have a cycle, as in ``Events;1``, and folders, as in ``a/b;1``.
        treename: the tree, with its folder and perhaps a cycle; None: the file has one.

    Raises:
        DataError: there is no such tree, or without ``treename`` there are several.
    """
    trees = {key.split(";")[0] for key, kind in classes.items() if kind in TREES}
    if treename is None:
        if len(trees) == 1:
            return trees.pop()
        remedy = "name the tree by treename in the data config, or for predict by --tree"
        raise DataError(f"{path} must hold one tree; it holds {_listed(classes)}; {remedy}")
    wanted = treename.strip("/")
    found = classes.get(wanted) or next((kind for key, kind in classes.items() if key.split(";")[0] == wanted), None)
    if found in TREES:
        return wanted
    remedy = "correct treename in the data config, or name the tree for predict by --tree"
    if found is not None:
        raise DataError(f"{path}: {wanted} is no tree but a {found}; the file holds {_listed(classes)}; {remedy}")
    raise DataError(f"{path} has no tree {treename!r}; it holds {_listed(classes)}; {remedy}")


def _listed(classes: Mapping[str, str]) -> str:
    """Return the contents of a file in words, trees first."""
    found = {key: kind.removeprefix("ROOT::") for key, kind in classes.items() if not kind.startswith("TDirectory")}
    cycles = [key.split(";")[0] for key in found]
    names = {key if cycles.count(key.split(";")[0]) > 1 else key.split(";")[0]: kind for key, kind in found.items()}
    order = sorted(names.items(), key=lambda item: item[1] not in (*TREES, "RNTuple"))
    shown = [f"{name} ({kind})" for name, kind in order[:_MOST_NAMES]]
    more = len(order) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "") if shown else "nothing"


def cluster_offsets(ntuple: Any) -> Sequence[int]:
    """Return the first rows of the clusters of an RNTuple, and the number of rows."""
    return [*(int(cluster.num_first_entry) for cluster in ntuple.cluster_summaries), int(ntuple.num_entries)]


def checked(ntuple: Any) -> Any:
    """Return an RNTuple that compares the checksum of each page that it reads, where pages have them.

    ROOT writes checksums, uproot does not. They are the XXH3 hash of the compressed page, which they follow.
    """
    read_page: Callable[..., None] = ntuple.read_page

    def read_checked(destination: Any, cluster: int, column: int, page: int, *others: Any) -> None:
        found = ntuple.page_link_list[cluster][column].pages[page]
        if found.has_checksum:
            end = found.locator.offset + found.locator.num_bytes
            stored = ntuple.file.source.chunk(found.locator.offset, end + _CHECKSUM.size).raw_data
            (expected,) = _CHECKSUM.unpack(bytes(stored[-_CHECKSUM.size :]))
            if xxhash.xxh3_64_intdigest(stored[: -_CHECKSUM.size]) != expected:
                raise ValueError(f"the checksum of a page of column {column} is wrong")
        read_page(destination, cluster, column, page, *others)

    ntuple.read_page = read_checked
    return ntuple


@dataclass(frozen=True)
class Unpacked(MutableMapping[str, Any]):
    """The unpacked columns of one file, as it is now, among those of all files."""

    prefix: str

    @classmethod
    def of(cls, path: Path) -> "Unpacked":
        """Return the columns of a file."""
        return cls(f"{path.absolute()} {stamp(path)} ")

    def __getitem__(self, key: str) -> Any:
        return _UNPACKED[self.prefix + key]

    def __setitem__(self, key: str, column: Any) -> None:
        _UNPACKED[self.prefix + key] = column

    def __delitem__(self, key: str) -> None:
        del _UNPACKED[self.prefix + key]

    def __iter__(self) -> Iterator[str]:
        return (key.removeprefix(self.prefix) for key in _UNPACKED if key.startswith(self.prefix))

    def __len__(self) -> int:
        return len(list(iter(self)))
