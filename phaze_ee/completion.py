"""Completion in the shell: modes, flags, workspaces, projects, and the values of flags that have a few.

A user turns it on with ``eval "$(register-python-argcomplete phaze_ee)"``. argcomplete then runs ``phaze_ee`` at each
tab.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal, get_args, get_origin

from phaze_ee.modes.mode import Mode
from phaze_ee.modes.registry import MODES
from phaze_ee.workspace import COMPARISONS, workspaces_root

_PROJECT_FLAGS = ("-p", "--project")


def asked() -> bool:
    """Return whether the shell asks for completions instead of running a command."""
    return "_ARGCOMPLETE" in os.environ


def complete(parser_of: Callable[[Mode | None], argparse.ArgumentParser]) -> None:
    """Write the completions of the command line in ``$COMP_LINE``, and end the program.

    Args:
        parser_of: returns the parser of a mode; None: of a command line that names none yet.
    """
    import argcomplete

    words = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])].split(" ")
    mode = next(
        (MODES[word] for before, word in pairwise(words[:-1]) if before in ("-m", "--mode") and word in MODES), None
    )
    parser = parser_of(mode)
    for action in parser._actions:
        completer = _completer(action, mode, words)
        if completer is not None:
            vars(action)["completer"] = completer
    argcomplete.autocomplete(parser, always_complete_options="long")


def _completer(action: argparse.Action, mode: Mode | None, words: Sequence[str]) -> Callable[..., list[str]] | None:
    """Return a function of argcomplete's keywords, ``prefix`` among them; None: argcomplete's own choice."""
    if action.dest == "project":
        second = len(words) > 2 and words[-3] in _PROJECT_FLAGS
        return lambda **_: _projects(words[-2]) if second else _folders("")
    if action.dest == "projects":
        workspace = next((word for before, word in pairwise(words) if before in _PROJECT_FLAGS), "")
        return lambda **_: _projects(workspace)
    if action.dest == "operations":
        return _operations
    if action.dest in ("policy", "activate"):
        named = next((words[at + 1 : at + 3] for at, word in enumerate(words) if word in _PROJECT_FLAGS), [])
        return lambda **_: _policies(*named) if len(named) == 2 else []
    choices = (
        _choices(action.dest) if mode is not None and any(flag.option == action.dest for flag in mode.flags) else []
    )
    return (lambda **_: choices) if choices else None


def _folders(path: str) -> list[str]:
    root = workspaces_root() / path
    return sorted(found.name for found in root.iterdir() if found.is_dir()) if root.is_dir() else []


def _projects(workspace: str) -> list[str]:
    return [name for name in _folders(workspace) if name != COMPARISONS]


def _policies(workspace: str, project: str) -> list[str]:
    folder = workspaces_root() / workspace / project / "output" / "results" / "policies"
    return sorted(path.stem for path in folder.glob("*.json") if "." not in path.stem)


def _operations(prefix: str, **_: Any) -> list[str]:
    """Return the modes that may follow in ``train_evaluate_…``."""
    before, joined, _last = prefix.rpartition("_")
    return [f"{before}{joined}{mode.name}" for mode in MODES.values() if mode.chained]


def _choices(option: str) -> list[str]:
    """Return the values of an option that has a few."""
    from phaze_ee.config.options import Options
    from phaze_ee.config.part_names import NameOf

    annotation: Any = Options.model_fields[option].annotation
    if get_origin(annotation) is Literal:
        return [str(value) for value in get_args(annotation)]
    kinds = (note for part in get_args(annotation) for note in getattr(part, "__metadata__", ()))
    return [name for kind in kinds if isinstance(kind, NameOf) for name in kind.known()]
