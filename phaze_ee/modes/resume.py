"""Whether an interrupted training goes on, and whether it may."""

import os
import sys
from collections.abc import Mapping
from typing import Any

from rich.prompt import Confirm

from phaze_ee.errors import UsageError
from phaze_ee.modes.console import console
from phaze_ee.training.resume import ResumePoint, find_resume_point, forget
from phaze_ee.workspace import Project

_SHOWN = 3


def resume_point(project: Project, *, fresh: bool, sure: bool) -> ResumePoint | None:
    """Return where the project's interrupted training goes on; None to start from the beginning.

    Args:
        project: the project that is to be trained.
        fresh: start anew; what the interrupted training knows is lost then, and the user is asked before.
        sure: do not ask.

    Raises:
        UsageError: the user says no, or cannot be asked.
    """
    point = find_resume_point(project.resume_point)
    if point is None or not fresh:
        return point
    if not sure:
        _ask(project, point)
    if int(os.environ.get("RANK", "0")) == 0:
        forget(project.resume_point)
    return None


def _ask(project: Project, point: ResumePoint) -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            f"--fresh would discard the interrupted training of {project} ({point.described}), and nobody is there to "
            "be asked; add --yes"
        )
    if not Confirm.ask(f"Discard the interrupted training of {project} ({point.described})?", console=console):
        raise UsageError(f"nothing was changed; without --fresh, the training of {project} goes on")


def check_unchanged(point: ResumePoint, run: Mapping[str, Any], config: str) -> None:
    """Make sure that a training goes on as it began.

    Raises:
        UsageError: an option or the data have changed since.
    """
    changed = [name for name in {**point.run, **run} if point.run.get(name) != run.get(name)]
    if changed:
        names = [_described(name, point.run.get(name), run.get(name)) for name in changed[:_SHOWN]]
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise UsageError(
            f"{config}: changed since the training was interrupted: {'; '.join(names)}{more}; undo that, or start anew "
            "with --fresh"
        )


def _described(name: str, before: object, now: object) -> str:
    return "the data files" if name == "data" else f"{name} was {before!r}, now {now!r}"
