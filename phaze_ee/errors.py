"""Errors that a user can cause or meet. The message is one line: what is wrong, where, and what to do."""

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


class PreemptedError(PhazeError):
    """A batch system stopped the run; the same command continues it."""

    exit_status = 85  # HTCondor's usual status of a job that asks to be restarted


def one_line(error: BaseException) -> str:
    """Return the type and the message of an exception without line breaks."""
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")


OUT_OF_MEMORY = (
    "there is not enough memory; lower c.batch_size, c.num_workers or the size of the network and its exit heads, or "
    "use a machine with more memory"
)
# torch reports this as a RuntimeError: on the CPU in words of its allocator, on a GPU as a subclass of that name.
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception says that memory ran out, in the words of Python, NumPy or torch."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in _NO_MEMORY)
