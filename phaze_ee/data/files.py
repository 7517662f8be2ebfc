"""Finds the files that the patterns of a configuration name."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from glob import glob
from pathlib import Path

from phaze_ee.data.schema import DataSchema
from phaze_ee.data.stamps import known_stamp
from phaze_ee.errors import UsageError, check_utf8
from phaze_ee.workspace import search_roots


def expand_patterns(option: str, patterns: Sequence[str], project_root: Path | None) -> list[Path]:
    """Return the files that the patterns of an option match, sorted, each once.

    ``**`` matches folders and ``~`` is the home folder. A relative pattern is looked up in the search roots of a
    project, and the first root with a match counts.

    Args:
        option: the name of the option, for errors.
        patterns: paths or glob patterns.
        project_root: the folder of the project; None: there is no project.

    Raises:
        UsageError: a pattern matches no file, or one whose name is not UTF-8.
    """
    return sorted({path for pattern in patterns for path in _matches(option, pattern, project_root)})


def fingerprint(files: Iterable[Path], schema: DataSchema) -> str:
    """Return a hash of the data configuration and of the names, sizes and modification times of files.

    What becomes of bad values is hashed too.

    Raises:
        DataError: a file does not exist any more.
    """
    digest = hashlib.sha256(json.dumps(schema.options, sort_keys=True).encode())
    if schema.bad_values != "refuse":
        digest.update(schema.bad_values.encode())
    for path in files:
        size, changed = known_stamp(path)
        digest.update(f"\n{path.absolute()} {size} {changed}".encode())
    return digest.hexdigest()


def _matches(option: str, pattern: str, project_root: Path | None) -> list[Path]:
    wanted = Path(pattern).expanduser()
    roots = (Path(),) if wanted.is_absolute() else search_roots(project_root)
    for root in roots:
        # An existing file is taken as it is, even if its name has [ ] or *.
        is_name = (root / wanted).is_file()
        names = [str(wanted)] if is_name else glob(str(wanted), root_dir=root, recursive=True)  # noqa: PTH207 - absolute
        found = [root / name for name in names]
        files = [path for path in found if path.is_file()]
        if files:
            for path in files:
                check_utf8(f"{option}: the name of", str(path))
            return files
    looked = "" if wanted.is_absolute() else f" (looked in {', '.join(str(root.absolute()) for root in roots)})"
    raise UsageError(f"{option}: no file matches {pattern!r}{looked}; correct it")
