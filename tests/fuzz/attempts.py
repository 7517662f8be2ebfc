"""What is tried: a changed scene, a command, and what may come of it."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Attempt:
    """A command on a scene that was changed.

    Attributes:
        arguments: of the command line.
        results: the files below the scene that the command writes, and which are compared.
        same: a run that ends with status 0 must write the results that it writes without the change.
        reference: the results that a run with status 0 must write; None: not known; an exception: it must fail.
        edits: texts of the project's configuration that are replaced, without the change too.
        removed: files that are not there in the scene without the change either.
        scratch: folders, below the scene, that a run which fails may have written to.
        what: the change in words.
    """

    arguments: Sequence[str]
    results: Sequence[str] = ()
    same: bool = False
    reference: Any = None
    edits: Mapping[str, str] = field(default_factory=dict)
    removed: Sequence[str] = ()
    scratch: Sequence[str] = ()
    what: str = ""


@dataclass(frozen=True)
class Kind:
    """A kind of inputs.

    Attributes:
        name: as the table shows it.
        attempt: changes the scene in a folder, with a seeded source of chance, and says what to run.
        share: how many of all runs are of this kind, relative to the other kinds.
    """

    name: str
    attempt: Callable[[random.Random, Path], Attempt]
    share: int = 1
