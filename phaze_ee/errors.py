"""Errors that a user can cause or meet. The message is one line: what is wrong, where, and what to do."""

import os
import re

_LONGEST, _LONGEST_WORD = 300, 255  # characters
_FILES = 2  # a message names at most two files; more words with a slash are part of an expression
_GAP = "…"

# What the user's own programs raise: configurations, network files and plug-ins. It is reported in one line that names
# the file.
USER_CODE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)


class PhazeError(Exception):
    """Base of the errors that the command line prints as one line, without a traceback."""

    exit_status = 2

    def __str__(self) -> str:
        return super().__str__().replace("\n", " ")  # texts from a user's files may have line breaks


class UsageError(PhazeError):
    """A flag, name, project or configuration is wrong."""


class DataError(PhazeError):
    """A data file, data configuration or jet cannot be used."""


class CheckpointError(PhazeError):
    """A checkpoint is missing, unreadable or of another network."""


class RunError(PhazeError):
    """A run failed after it had started: for example a non-finite loss or a full disk."""

    exit_status = 1


class NothingPassedError(RunError):
    """No policy keeps the target of a calibration. The other modes of a chain do not need one."""


class BrokenPromiseError(PhazeError):
    """Audits show that the promise of a policy is broken."""

    exit_status = 3


class PreemptedError(PhazeError):
    """A batch system stopped the run; the same command continues it."""

    exit_status = 85  # HTCondor's usual status of a job that asks to be restarted


def one_line(error: BaseException) -> str:
    """Return the type and the message of an exception without line breaks."""
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")


def shortened(text: str) -> str:
    """Return a text with at most ``_LONGEST`` characters, not counting the files that it names.

    Words are left out in the middle. What is wrong comes first in a message, and what to do comes last. Characters that
    are not printable, such as the escape sequences of terminals, are written as in Python.
    """
    words = [_cut(word) for word in _printable(text).split(" ")]
    files = [index for index, word in enumerate(words) if "/" in word][:_FILES]
    others = [index for index in range(len(words)) if index not in files]
    length = sum(len(words[index]) + 1 for index in others)
    for index in sorted(others, key=lambda place: abs(place - len(words) / 2)):
        if length > _LONGEST:
            length -= len(words[index]) + 1
            words[index] = _GAP
    return re.sub(rf"{_GAP}( {_GAP})+", _GAP, " ".join(words))


def _printable(text: str) -> str:
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


def _cut(word: str) -> str:
    return word if len(word) <= _LONGEST_WORD else f"{word[: _LONGEST_WORD // 2]}{_GAP}{word[-_LONGEST_WORD // 2 :]}"


def check_utf8(what: str, name: str) -> None:
    """Refuse a name that is not text: it could be neither printed nor written to a results file.

    Raises:
        UsageError: the name has bytes that are not UTF-8.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{what} {os.fsencode(name)!r} is not UTF-8; rename it") from error


OUT_OF_MEMORY = (
    "there is not enough memory; lower c.batch_size, c.num_workers or the size of the network and its exit heads, or "
    "use a machine with more memory"
)
# torch reports this as a RuntimeError: on the CPU in words of its allocator, on a GPU as a subclass of that name.
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception says that memory ran out, in the words of Python, NumPy or torch."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in _NO_MEMORY)
