"""Mode chain: several modes in a row."""

from collections.abc import Sequence

from phaze_ee.errors import NothingPassedError, UsageError
from phaze_ee.modes.console import console, say_in_columns
from phaze_ee.modes.mode import Mode
from phaze_ee.modes.registry import chained_modes
from phaze_ee.modes.session import Session


def run(session: Session) -> None:
    """Run the modes of ``-o`` in order. The first that fails ends the chain with its own error.

    Raises:
        NothingPassedError: calibrate found no policy. The modes after it have run.
    """
    run_modes(session, session.request.operations)


def run_modes(session: Session, operations: str) -> None:
    """Run modes, joined by ``_``, on the project of a session. Its configuration is run once for all of them.

    Raises:
        NothingPassedError: calibrate found no policy. It is raised after the modes that follow.
    """
    modes = chained_modes(operations)
    _check_results(modes, session, operations)
    if modes[0].configured or (modes[0].name == "retrofit" and session.project.config.is_file()):
        _ = session.options  # errors in the configuration show before anything runs
        for mode in modes:
            mode.refuse_early(session.for_mode(mode.name))
    failed: NothingPassedError | None = None
    for position, mode in enumerate(modes, start=1):
        console.rule(f"{position}/{len(modes)} {mode.name}", align="left")
        try:
            mode.run(session.for_mode(mode.name))
        except NothingPassedError as error:
            failed = error
            say_in_columns(f"{mode.name} failed: {error}")
    if failed is not None:
        raise failed


def _check_results(modes: Sequence[Mode], session: Session, operations: str) -> None:
    """Refuse a mode whose results nothing before it makes, and that the project does not have of its model.

    Raises:
        UsageError: so it is.
    """
    project, before = session.project, set[str]()
    made = {"evaluate": project.evaluation_results, "benchmark": project.benchmark_results}
    for mode in modes:
        anew = before & {"new_project", "train", "retrofit"}
        for name in mode.reads:
            has_results = made[name].is_file() or project.seeds_results.is_file()
            if name not in before and (anew or not has_results):
                raise UsageError(
                    f"{mode.name} reads the results of {name}, which -o {operations} does not run before it; put "
                    f"{name} before {mode.name}"
                )
        before.add(mode.name)
