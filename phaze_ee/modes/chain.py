"""Mode chain: several modes in a row."""

from phaze_ee.errors import NothingPassedError
from phaze_ee.modes.console import console, say_in_columns
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
    if modes[0].configured:
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
