"""Mode chain: several modes in a row."""

import dataclasses
import importlib

from phaze_ee.errors import UsageError
from phaze_ee.modes.console import console
from phaze_ee.modes.request import Request

CHAINABLE = (
    "new_project",
    "convert",
    "train",
    "retrofit",
    "place",
    "calibrate",
    "evaluate",
    "benchmark",
    "predict",
    "plot",
)


def run(request: Request) -> None:
    """Run the modes of ``-o`` in order; the first that fails ends the chain with its own error."""
    operations = parse_operations(request.operations)
    for position, operation in enumerate(operations, start=1):
        console.rule(f"{position}/{len(operations)} {operation}", align="left")
        importlib.import_module(f"phaze_ee.modes.{operation}").run(dataclasses.replace(request, mode=operation))


def parse_operations(operations: str) -> list[str]:
    """Split ``train_evaluate`` into modes; ``new_project`` may also be written ``newproject``.

    Raises:
        UsageError: an operation is unknown, or none is given; nothing has run then.
    """
    words = operations.replace("new_project", "newproject").split("_")
    modes = ["new_project" if word == "newproject" else word for word in words]
    for mode in modes:
        if mode not in CHAINABLE:
            raise UsageError(
                f"unknown operation {mode!r} in -o {operations!r}; join some of {', '.join(CHAINABLE)} with '_'"
            )
    return modes
