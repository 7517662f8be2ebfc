"""Python files that belong to the user: configurations, network files and plug-ins.

They are programs, and run with the rights of the user. A file runs only when the user names it, on the command line, in
a configuration or as an argument; what a checkpoint says about a file never makes it run.
"""

import ast
import hashlib
import inspect
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from phaze_ee.errors import USER_CODE_ERRORS, PhazeError, UsageError, one_line

_PREFIX = "phaze_ee_user"


@dataclass(frozen=True)
class UserFile:
    """A Python file as it was when it ran.

    Attributes:
        path: absolute.
        sha256: the SHA-256 of the whole file.
        code_sha256: the SHA-256 of the file without its function ``set_config``. Options may change after a training;
            classes may not.
        source: the content.
    """

    path: str
    sha256: str
    code_sha256: str
    source: bytes = field(repr=False, compare=False)

    @classmethod
    def read(cls, path: Path) -> "UserFile":
        """Return the file as it is now; OSError where it cannot be read."""
        source = path.read_bytes()
        return cls(str(path.absolute()), _digest(source), _digest(_without_set_config(source)), source)

    @property
    def module_name(self) -> str:
        """The name of the module, the same in every process that runs the file."""
        stem = re.sub(r"\W", "_", Path(self.path).stem)
        return f"{_PREFIX}_{stem}_{_digest(self.path.encode())[:8]}"


# The files that have run in this process, by the names of their modules in sys.modules; those that every mode runs.
_files: dict[str, UserFile] = {}
_plugins: set[str] = set()


def run_configuration(path: Path) -> ModuleType:
    """Run a configuration and return its module. What the file raises is passed on.

    The module of the first run stays in ``sys.modules`` until the classes of the file change, so that they can be
    pickled by name.
    """
    file = UserFile.read(path)
    _plugins.add(file.module_name)
    return _run(path, file)


def import_file(path: Path) -> ModuleType:
    """Return the module of a file, which runs once per process and content. What the file raises is passed on."""
    file = UserFile.read(path)
    return sys.modules[file.module_name] if _files.get(file.module_name) == file else _run(path, file)


def import_plugin(path: Path) -> None:
    """Import a plug-in, a file that registers parts.

    Raises:
        UsageError: the file cannot be read or run. The message holds the line.
    """
    with reporting(path, "plug-in"):
        _plugins.add(UserFile.read(path).module_name)
        import_file(path)


@contextmanager
def reporting(path: Path, kind: str) -> Iterator[None]:
    """Turn what a file of the user raises into a UsageError with the file and, where known, the line.

    Args:
        path: the file, as it was given to :func:`run_configuration` or :func:`import_file`.
        kind: what the file is, for a file that cannot be read.
    """
    try:
        yield
    except (MemoryError, PhazeError):
        raise
    except Exception as error:  # the file is a program of the user, and may raise exceptions of its own
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        if frames:
            raise UsageError(f"{path}:{frames[-1].lineno}: {one_line(error)}") from error
        if isinstance(error, SyntaxError) and error.filename == str(path):
            raise UsageError(f"{path}:{error.lineno}: not valid Python: {error.msg}") from error
        if isinstance(error, UnicodeDecodeError):
            raise UsageError(f"{path}: not a text file in UTF-8") from error
        if isinstance(error, OSError):
            raise UsageError(f"cannot read {kind} {path}: {error.strerror}") from error
        if not isinstance(error, USER_CODE_ERRORS):
            raise  # not from the file: a fault of this package
        raise UsageError(f"{path}: {one_line(error)}") from error


def file_of(part: Any) -> UserFile | None:
    """Return the file that defines a class; None for a class of an interactive session, which has no file."""
    module = part.__module__
    if module in _files:
        return _files[module]
    try:
        return UserFile.read(Path(inspect.getfile(part)))
    except (OSError, TypeError):
        return None


def is_plugin(file: UserFile | None) -> bool:
    """Return whether the classes of a file are known in every mode; only a network file's may not be."""
    return file is None or file.module_name not in _files or file.module_name in _plugins


def _run(path: Path, file: UserFile) -> ModuleType:
    name = file.module_name
    module = ModuleType(name)
    module.__file__ = str(path)
    code = compile(file.source.decode("utf-8"), str(path), "exec", dont_inherit=True)
    known, before = _files.get(name), sys.modules.get(name)
    _files[name] = file
    if known is None or known.code_sha256 != file.code_sha256:
        sys.modules[name] = module
    try:
        exec(code, module.__dict__)
    except BaseException:
        _restore(_files, name, known)
        _restore(sys.modules, name, before)
        raise
    return module


def _restore(table: dict[str, Any], name: str, value: Any) -> None:
    if value is None:
        table.pop(name, None)
    else:
        table[name] = value


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _without_set_config(source: bytes) -> bytes:
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return source
    lines = source.splitlines(keepends=True)
    for node in reversed(body):
        if isinstance(node, ast.FunctionDef) and node.name == "set_config":
            del lines[node.lineno - 1 : node.end_lineno]
    return b"".join(lines)
