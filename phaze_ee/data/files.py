"""Finds the files that the patterns of a configuration name."""

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from glob import glob, has_magic
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from phaze_ee.data.remote import SCHEME, remote_files
from phaze_ee.data.stamps import known_stamp
from phaze_ee.errors import UsageError, check_utf8
from phaze_ee.names import nearest
from phaze_ee.workspace import find_file, home_path, search_roots

if TYPE_CHECKING:
    from phaze_ee.data.schema import DataSchema

_LIST = "@"
_MOST_COMPARED = 1000  # names of a folder, for a hint
_SHOWN = 3  # of them
_GROUP = re.compile(r"^[\w.+-]+(%\d+)?:(?!//)")  # name: or, in weaver's tests, name%10:
_SCHEME = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]*://")


def expand_patterns(option: str, patterns: Sequence[str], project_root: Path | None) -> list[Path]:
    """Return the files that the patterns of an option match, sorted, each once, by whatever names it has.

    ``**`` matches folders and ``~`` is the home folder. A relative pattern is looked up in the search roots of a
    project, and the first root with a match counts. As in weaver, a pattern may begin with the name of a group,
    ``name:``; all jets are mixed evenly, so the name changes nothing. ``root://host//path`` is on an XRootD server.
    ``@list.txt`` is a list of patterns, one a line, which may also be relative to the folder of the list.

    Args:
        option: the name of the option, for errors.
        patterns: paths or glob patterns.
        project_root: the folder of the project; None: there is no project.

    Raises:
        UsageError: a pattern matches no file, or one whose name is not UTF-8; or a list cannot be read.
    """
    roots = search_roots(project_root)
    found = sorted({path for pattern in patterns for path in _of_entry(option, pattern, roots, project_root)})
    # A link, or a relative and an absolute name, would count its jets twice.
    once = {path.resolve(): path for path in reversed(found)}
    return sorted(once.values())


def fingerprint(files: Iterable[Path], schema: "DataSchema") -> str:
    """Return a hash of the data configuration and of the names, sizes and modification times of files.

    What becomes of bad values is hashed too.

    Raises:
        DataError: a file does not exist any more.
    """
    digest = hashlib.sha256(schema.text.encode())
    if schema.bad_values != "refuse":
        digest.update(schema.bad_values.encode())
    for path in files:
        size, changed = known_stamp(path)
        digest.update(f"\n{path.absolute()} {size} {changed}".encode())
    return digest.hexdigest()


def _of_entry(option: str, entry: str, roots: Sequence[Path], project_root: Path | None) -> list[Path]:
    if not entry.startswith(_LIST) or any((root / entry).is_file() for root in roots):
        return _matches(option, entry, roots)
    path = find_file(f"{option}: the list", entry.removeprefix(_LIST), project_root)
    inside = f"{option}: {path}"
    lines = _lines(inside, path)
    nested = next((line for line in lines if line.startswith(_LIST)), None)
    if nested is not None:
        raise UsageError(f"{inside} names the list {nested!r}; write its files out")
    return [found for line in lines for found in _matches(inside, line, [*roots, path.parent])]


def _lines(inside: str, path: Path) -> list[str]:
    """Return the lines of a list without empty ones and comments."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{inside} cannot be read: {error}; give a text file with one file or pattern a line"
        ) from error
    lines = [line.strip() for line in text.splitlines()]
    found = [line for line in lines if line and not line.startswith("#")]
    if not found:
        raise UsageError(f"{inside} names no file; write one file or pattern a line")
    return found


def _matches(option: str, entry: str, roots: Sequence[Path]) -> list[Path]:
    for pattern in dict.fromkeys((entry, _GROUP.sub("", entry))):  # a name may have a colon
        scheme = _SCHEME.match(pattern)
        if scheme is not None and scheme[0] == "file://":
            raise UsageError(f"{option}: {pattern} is a URL; give its path: {pattern.removeprefix('file://')}")
        if scheme is not None and scheme[0] != SCHEME:
            raise UsageError(f"{option}: files of {scheme[0]} cannot be read ({pattern}); copy them, or use {SCHEME}")
        files = remote_files(option, pattern) if scheme is not None else _local_files(pattern, roots)
        if files:
            for path in files:
                check_utf8(f"{option}: the name of", str(path))
            return files
    absolute = home_path(_GROUP.sub("", entry)).is_absolute()
    looked = "" if absolute else f" (looked in {', '.join(str(root.absolute()) for root in roots)})"
    raise UsageError(f"{option}: no file matches {entry!r}{looked}; {_what_is_there(_GROUP.sub('', entry), roots)}")


def _what_is_there(pattern: str, roots: Sequence[Path]) -> str:
    """Return how far the path of a pattern without a match exists, and what is nearest to its rest."""
    wanted = home_path(pattern)
    places = [_existing_part(root, wanted) for root in ((Path(wanted.anchor),) if wanted.is_absolute() else roots)]
    folder, rest = min(places, key=lambda place: len(place[1]))
    shown = folder.absolute()
    if not rest:
        suffixes = [Path(name).suffix for name in _names_in(folder, folders=False)]
        usual = max((suffix for suffix in suffixes if suffix), key=suffixes.count, default=".root")
        return f"{shown} is a folder: name its files, such as {wanted / f'*{usual}'}"
    is_folder = len(rest) > 1 and not has_magic(rest[0])
    names = _names_in(folder, folders=is_folder)
    near = nearest(rest[0], names)
    what = f"{shown} has no folder {rest[0]!r}" if is_folder else f"folder {shown} exists, without such a file"
    if near is not None:
        return f"{what}; did you mean {near!r}?"
    held = f"it holds {', '.join(names[:_SHOWN])}{', …' * (len(names) > _SHOWN)}" if names else "it is empty"
    return f"{what}; {held}"


def _existing_part(root: Path, wanted: Path) -> tuple[Path, list[str]]:
    """Return the deepest existing folder on the way from a root, and the rest of the path."""
    folder, rest = root, list(wanted.relative_to(wanted.anchor).parts)
    while rest and (folder / rest[0]).is_dir():
        folder, rest = folder / rest[0], rest[1:]
    return folder, rest


def _names_in(folder: Path, *, folders: bool) -> list[str]:
    """Return some names of files and folders in a folder, or of ``folders`` alone."""
    try:
        with os.scandir(folder) as entries:
            some = [entry for entry in islice(entries, _MOST_COMPARED) if not entry.name.startswith(".")]
            return sorted(entry.name for entry in some if entry.is_dir() or not folders)
    except OSError:  # the folder may not be listed
        return []


def _local_files(pattern: str, roots: Sequence[Path]) -> list[Path]:
    wanted = home_path(pattern)
    for root in (Path(),) if wanted.is_absolute() else roots:
        # An existing file is taken as it is, even if its name has [ ] or *.
        is_name = (root / wanted).is_file()
        names = [str(wanted)] if is_name else glob(str(wanted), root_dir=root, recursive=True)  # noqa: PTH207 - absolute
        files = [path for path in (root / name for name in names) if path.is_file()]
        if files:
            return files
    return []
