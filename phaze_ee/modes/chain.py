"""Mode chain: several modes in a row."""

from phaze_ee.modes.console import console
from phaze_ee.modes.registry import chained_modes
from phaze_ee.modes.session import Session


def run(session: Session) -> None:
    """Run the modes of ``-o`` in order. The first that fails ends the chain with its own error."""
    run_modes(session, session.request.operations)


def run_modes(session: Session, operations: str) -> None:
    """Run modes, joined by ``_``, on the project of a session. Its configuration is run once for all of them."""
    modes = chained_modes(operations)
    if modes[0].configured:
        _ = session.options  # errors in the configuration show before anything runs
    for position, mode in enumerate(modes, start=1):
        console.rule(f"{position}/{len(modes)} {mode.name}", align="left")
        mode.run(session.for_mode(mode.name))
