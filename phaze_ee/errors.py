"""What can go wrong for a user. Each message is one line: what, where, and what to do."""

# A configuration and a network file are programs of the user's. What they raise is reported as a line of that file, not
# as a traceback through ours.
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
        return super().__str__().replace("\n", " ")  # names and expressions in a user's files may have line breaks


class UsageError(PhazeError):
    """A wrong flag, name, project or configuration."""


class DataError(PhazeError):
    """A data file, data configuration or jet that cannot be used."""


class CheckpointError(PhazeError):
    """A checkpoint that is missing, unreadable or made for another network."""


class RunError(PhazeError):
    """A run that started well and failed: a non-finite loss, a full disk."""

    exit_status = 1


class PreemptedError(PhazeError):
    """A run that a batch system stopped; started again it goes on."""

    exit_status = 85  # what HTCondor's manual uses for a job that wants to be started again


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
