"""What can go wrong for a user. Each message is one line: what, where, and what to do."""


class PhazeError(Exception):
    """Base of the errors that the command line prints as one line, without a traceback."""

    exit_status = 2


class UsageError(PhazeError):
    """A wrong flag, name, project or configuration."""


class DataError(PhazeError):
    """A data file, data configuration or jet that cannot be used."""


class CheckpointError(PhazeError):
    """A checkpoint that is missing, unreadable or made for another network."""


class RunError(PhazeError):
    """A run that started well and failed: a non-finite loss, a full disk."""

    exit_status = 1
