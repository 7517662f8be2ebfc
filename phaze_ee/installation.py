"""The version, and which libraries are installed: of the whole package, or of the distribution ``phaze-ee-runtime``."""

from importlib.util import find_spec

from phaze_ee.errors import UsageError

VERSION = "0.1.0"
# None of them is a dependency of phaze-ee-runtime; any other distribution may have brought some of them.
_LIBRARIES = ("torch", "lightning", "weaver", "numba", "pyarrow", "scipy", "sklearn", "matplotlib")


def require_all(what: str) -> None:
    """Check that the libraries of the whole package are installed.

    Args:
        what: needs them; the first words of the message.

    Raises:
        UsageError: one is not; the message has the command that installs them.
    """
    missing = next((name for name in _LIBRARIES if find_spec(name) is None), None)
    if missing is not None:
        raise UsageError(
            f"{what} needs {missing}, which this environment lacks (phaze-ee-runtime runs exported taggers only: "
            "predict --bundle and load_bundle); install all, in a checkout of PHAZE-EE: pip install ."
        )


def extra_command(extra: str) -> str:
    """Return, for a message, how to install an optional part of the package. It is on no registry of packages."""
    return f'in a checkout of PHAZE-EE: pip install ".[{extra}]" (or: uv sync --extra {extra})'


def require(library: str, what: str, install: str) -> None:
    """Check that one library is installed.

    Args:
        library: the name under which it is imported.
        what: needs it; the first words of the message.
        install: what pip installs.

    Raises:
        UsageError: it is not; the message has the command that installs it.
    """
    if find_spec(library) is None:
        raise UsageError(f"{what} needs {library}, which this environment lacks; install it: pip install {install}")
