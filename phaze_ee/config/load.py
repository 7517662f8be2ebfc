"""Run the ``set_config(c)`` of a configuration file, import its plug-ins, and check the options."""

import logging
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Self

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from phaze_ee.config.options import Options
from phaze_ee.errors import UsageError
from phaze_ee.names import nearest
from phaze_ee.user_files import import_plugin, reporting, run_configuration
from phaze_ee.workspace import find_file

_logger = logging.getLogger(__name__)
_EXPECTED = "Input should be "  # how pydantic's messages about types begin


class _Recorder:
    """The ``c`` of ``set_config(c)``: it accepts known names only, and notes the line that set each of them."""

    def __init__(self, path: Path) -> None:
        self.__dict__.update(_path=path, _values={}, _lines={}, _own={})

    def __setattr__(self, name: str, value: object) -> None:
        line = self._calling_line(sys._getframe(1))
        if name not in Options.model_fields:
            raise UsageError(f"{self._path}:{line}: unknown option {name!r}{nearest_option(name)}")
        setter = sys._getframe(1).f_code
        if setter.co_filename == str(self._path):  # not in a file from which this one starts
            self._warn_of_another(name, value, line, setter)
        self._values[name] = value
        self._lines[name] = line

    def _warn_of_another(self, name: str, value: object, line: int, setter: CodeType) -> None:
        """Warn of an option that one function sets twice; one that calls another and sets it again means to."""
        earlier, by = self._own.get(name, (line, setter))
        if earlier != line and by is setter and self._values[name] != value:
            _logger.warning("%s: c.%s is set in line %d and in line %d, which counts", self._path, name, earlier, line)
        self._own[name] = line, setter

    def __getattr__(self, name: str) -> Any:
        if name in self._values:
            return self._values[name]
        line = self._calling_line(sys._getframe(1))
        if name not in Options.model_fields:
            raise UsageError(f"{self._path}:{line}: unknown option {name!r}{nearest_option(name)}")
        if Options.model_fields[name].is_required():
            raise UsageError(f"{self._path}:{line}: option {name!r} is read before it is set; it has no default")
        # Kept, so that a change in place (c.beta_max[0] = 0.1) counts.
        self._values[name] = Options.model_fields[name].get_default(call_default_factory=True)
        self._lines[name] = line
        return self._values[name]

    def _calling_line(self, frame: FrameType | None) -> int:
        while frame is not None and frame.f_code.co_filename != str(self._path):
            frame = frame.f_back
        return 0 if frame is None else frame.f_lineno


def nearest_option(name: str) -> str:
    """Return the end of a message about an unknown option: the nearest known name."""
    near = get_close_matches(name, Options.model_fields, n=1)
    return f"; did you mean {near[0]!r}?" if near else "; docs/CONFIGURATION.md lists the options"


@dataclass(frozen=True)
class Configuration:
    """What a configuration file sets: the values by option, and the line that set each."""

    path: Path
    values: Mapping[str, Any]
    lines: Mapping[str, int]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Run a configuration file and import its plug-ins. It is a program of the user; each command runs it once.

        Raises:
            UsageError: the file is missing or is not Python, has no ``set_config``, or sets an unknown name; or a
                plug-in is missing or cannot be run.
        """
        recorder = _Recorder(path)
        with reporting(path, "configuration"):
            set_config = getattr(run_configuration(path), "set_config", None)
        if not callable(set_config):
            raise UsageError(f"{path}: defines no function set_config(c); start from a file that new_project writes")
        with reporting(path, "configuration"):
            set_config(recorder)
        _import_plugins(recorder)
        return cls(path, recorder._values, recorder._lines)

    def options(self, flags: Mapping[str, Any] | None = None) -> Options:
        """Return the validated options.

        Args:
            flags: options from the command line, which override those of the file.

        Raises:
            UsageError: a value has a wrong type, or a required option is missing. The message holds the file and, where
                known, the line.
        """
        return _validate(self, flags or {})


def load_options(path: Path, flags: Mapping[str, Any] | None = None) -> Options:
    """Run a configuration file and return its validated options, see :class:`Configuration`."""
    return Configuration.read(path).options(flags)


def _import_plugins(recorder: _Recorder) -> None:
    names, line = recorder._values.get("plugins", ()), recorder._lines.get("plugins")
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return  # of a wrong type, which the validation reports
    for name in names:
        try:
            import_plugin(find_file("plugins", name, recorder._path.absolute().parents[1]))
        except UsageError as error:
            raise UsageError(f"{recorder._path}:{line}: {error}") from error


def _validate(configuration: Configuration, flags: Mapping[str, Any]) -> Options:
    try:
        return Options.model_validate({**configuration.values, **flags})
    except ValidationError as error:
        errors = error.errors(include_url=False)
        first = errors[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        line = None if name in flags else configuration.lines.get(name)
        path = configuration.path
        where = f"{path}:{line}" if line else "the command line" if name in flags else str(path)
        same = [
            found for found in errors if found["loc"][:1] == first["loc"][:1] and _item(found) == _item(first)
        ]  # one for each type that it may have
        message = " or ".join([_in_words(first), *(_in_words(found).removeprefix(_EXPECTED) for found in same[1:])])
        what = f"{name}{_item(first)}: {message}" if name else message
        given = f" (got {first['input']!r})" if name and first["type"] != "missing" else ""
        more = len(errors) - len(same)
        raise UsageError(f"{where}: {what}{given}{f' (and {more} more)' if more else ''}") from error


def _item(error: ErrorDetails) -> str:
    """Return which item of an option an error is about, as it is written after the option's name."""
    return "".join(f"[{part}]" for part in error["loc"][1:] if isinstance(part, int))


def _in_words(error: ErrorDetails) -> str:
    if error["type"] == "too_short":
        return f"give at least {error['ctx']['min_length']}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] != "literal_error":
        return message
    choices = re.findall("'([^']+)'", error["ctx"]["expected"])
    near = nearest(str(error["input"]), choices) if len(choices) > 1 else None
    return message if near is None else f"{message}; did you mean {near!r}?"
