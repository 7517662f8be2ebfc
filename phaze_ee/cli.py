"""The command line: it reads the flags, runs the mode, and prints an error as one line."""

import argparse
import dataclasses
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from io import TextIOWrapper
from pathlib import Path
from threading import Timer
from typing import Any, NoReturn

from phaze_ee import __version__, completion
from phaze_ee.errors import (
    OUT_OF_MEMORY,
    PhazeError,
    PreemptedError,
    UsageError,
    check_utf8,
    is_out_of_memory,
    shortened,
)
from phaze_ee.installation import require_all
from phaze_ee.machine import rank
from phaze_ee.modes.mode import Flag, Mode
from phaze_ee.modes.registry import MODES, chained_modes, flags_of, near_target
from phaze_ee.modes.request import Request
from phaze_ee.modes.session import Session
from phaze_ee.names import nearest

_OVERVIEW = "Early exits for jet taggers: train them, judge them, skip the work.\n\nmodes:\n"
_EXAMPLES = """\
examples:
  phaze_ee -m demo
  phaze_ee -m new_project -p JetClass first
  phaze_ee -m chain -p JetClass first -o train_calibrate_evaluate_benchmark_plot
  phaze_ee -m retrofit -p JetClass published --checkpoint ParticleNet_full.pt
  phaze_ee -m compare -p JetClass all --projects first second
  phaze_ee -m sweep -p JetClass first --set lr=1e-3:1e-2:log --trials 10
  phaze_ee -m generate --output jets --jets 1000 --classes HToBB ZJetsToNuNu

phaze_ee -m MODE --help shows the flags of one mode.
Projects are in ./phaze_ee/workspaces, or in $PHAZE_EE_WORKSPACES.
Exit status: 0 done, 1 a run failed, 2 something to correct (see the message),
3 a broken promise (monitor), 85 a signal stopped it (start it again).
"""


class _Parser(argparse.ArgumentParser):
    """Reports a wrong flag like any other error: in one line."""

    usage_of = ""  # "-m MODE ", once the mode is known

    def error(self, message: str) -> NoReturn:
        hint = f"phaze_ee {self.usage_of}--help shows the usage"
        self.exit(UsageError.exit_status, f"{self.prog}: error: {shortened(' '.join(message.split()))}; {hint}\n")


class _OneMode(argparse.Action):
    """Refuses a second mode, which would silently replace the first."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        if (first := getattr(namespace, self.dest, None)) is not None:
            parser.error(f"-m is given twice; for several modes: -m chain -o {first}_{values}")
        setattr(namespace, self.dest, values)


class _OneProject(argparse.Action):
    """Takes one or two names: a workspace, and perhaps a project. A second project would replace the first."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        if len(values) > 2:
            parser.error(f"argument -p/--project: expected at most 2 arguments, got {len(values)}")
        if (first := getattr(namespace, self.dest, None)) is not None:
            parser.error(f"-p is given twice: {' '.join(filter(None, first))} and {' '.join(values)}; give one project")
        setattr(namespace, self.dest, (*values, None)[:2])


def _parser(
    description: str,
    epilog: str,
    flags: Iterable[Flag],
    *,
    title: str = "",
    help_: bool = True,
    whole_workspace: bool = False,
) -> _Parser:
    """Return a parser of ``-m`` and the flags of all modes, and of those of one mode under ``title``."""
    parser = _Parser(
        prog="phaze_ee",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        add_help=help_,
    )
    parser.add_argument(
        "-m",
        "--mode",
        required=help_,
        action=_OneMode,
        type=_mode_name,
        choices=MODES,
        metavar="MODE",
        help="what to do",
    )
    if help_:
        count: Any = "+" if whole_workspace else 2
        names = ("WORKSPACE", "PROJECT")
        parser.add_argument(
            "-p", "--project", nargs=count, action=_OneProject, metavar=names, help="the project to work on"
        )
        parser.add_argument("-v", "--verbose", action="store_true", help="log more, and show tracebacks")
        parser.add_argument("--version", action="version", version=f"phaze_ee {__version__}")
    group = parser.add_argument_group(title) if title else parser
    for flag in flags:
        group.add_argument(*flag.names, dest=flag.destination, help=flag.help, **flag.settings)
    return parser


def _mode_name(name: str) -> str:
    near = get_close_matches(name, MODES, n=1)
    if near and near[0] != name:
        raise argparse.ArgumentTypeError(f"invalid choice: {name!r}, did you mean {near[0]!r}?")
    return name  # argparse refuses what resembles no mode, with the list of all


def parse(arguments: Sequence[str] | None = None) -> Request:
    """Read the command line. What is wrong with it ends the program with status 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    known, _ = _parser("", "", (), help_=False).parse_known_args(arguments)
    if not hasattr(known, "mode"):
        parser_of(None).parse_args(arguments)  # --help, --version, or the error
    mode = MODES[known.mode]
    parser = parser_of(mode)
    given, others = parser.parse_known_args(arguments)
    if others:
        parser.error(_stray(others, mode))
    values = vars(given)
    _check_chain(parser, mode, values)
    return dataclasses.replace(_request(values, flags_of(mode)), arguments=tuple(arguments))


def parser_of(mode: Mode | None) -> _Parser:
    """Return the parser of a command line with a mode; None: of one that names none."""
    if mode is None:
        width = max(map(len, MODES))
        modes = "\n".join(f"  {mode.name:<{width}} {mode.summary}" for mode in MODES.values())
        return _parser(_OVERVIEW + modes, _EXAMPLES, ())
    title = "flags of the chained modes" if mode.name == "chain" else f"flags of {mode.name}"
    summary, alone = f"{mode.name}: {mode.summary}.", mode.whole_workspace
    parser = _parser(summary, "", flags_of(mode), title=title, whole_workspace=alone)
    parser.usage_of = f"-m {mode.name} "
    return parser


def _stray(others: Sequence[str], mode: Mode) -> str:
    """Return what is wrong with arguments that a mode does not take."""
    for word in others:
        owners = [own.name for own in MODES.values() if any(word.split("=")[0] in flag.names for flag in own.flags)]
        if owners:
            targets = [target for other in others if (target := near_target(other))]
            meant = f", did you mean {targets[0]}?" if targets else ""
            return f"{word.split('=')[0]} belongs to {_listed(owners)}, not to {mode.name}{meant}"
    for word in others:
        if word.startswith("--") and (option := _option(word)):
            return f"{word} is no flag of {mode.name}; set c.{option} in the configuration of the project"
    # Without dashes, in which all flags are alike.
    names = {name.lstrip("-"): name for flag in flags_of(mode) for name in flag.names}
    near = next((names[name] for word in others if (name := nearest(word.lstrip("-"), names))), None)
    return f"unrecognized arguments: {' '.join(others)}" + (f", did you mean {near}?" if near else "")


def _option(word: str) -> str | None:
    """Return the option of the configuration that a word would set if it were a flag; None: there is none."""
    from phaze_ee.config.options import Options  # it takes a while, and only an error needs it

    name = word.split("=")[0].lstrip("-").replace("-", "_")
    return name if name in Options.model_fields else None


def _check_chain(parser: argparse.ArgumentParser, mode: Mode, values: dict[str, Any]) -> None:
    """End the program at an unknown operation of a chain, or at a flag that none of its operations takes."""
    if mode.name != "chain":
        return
    operations = values.get("operations", Request.operations)
    try:
        taken = {flag.destination for chained in chained_modes(operations) for flag in chained.flags}
    except UsageError as error:
        parser.error(str(error))
    for flag in flags_of(mode):
        if flag.destination in values and flag not in mode.flags and flag.destination not in taken:
            names = {own.name: {one.name for one in own.flags} for own in MODES.values() if own.chained}
            owners = [owner for owner, own in names.items() if flag.name in own]
            parser.error(f"{flag.name} belongs to {_listed(owners)}, which -o {operations} does not run")


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _request(values: dict[str, Any], flags: Iterable[Flag]) -> Request:
    workspace, project = values.pop("project", (None, None))
    overridden = {flag.option for flag in flags if flag.option is not None and flag.option in values}
    options = {name: values.pop(name) for name in sorted(overridden)}
    return Request(workspace=workspace, project=project, flags=options, **values)


def run(request: Request) -> None:
    """Run one mode; its module and the heavy libraries are imported only now."""
    mode = MODES[request.mode]
    if mode.needs_project(request):
        require_all(f"mode {mode.name!r}")
    session = Session.open(request)
    if mode.configured and mode.needs_project(request):
        _ = session.options  # errors in a configuration show at once, not after seconds of imports
    from phaze_ee.modes.console import begin

    begin()
    mode.run(session)


def _speaker() -> str:
    return f"phaze_ee, process {rank()}" if rank() else "phaze_ee"


class _Stopped(BaseException):
    """A signal asked the program to end. No ``except Exception`` on the way may swallow this."""


@contextmanager
def _signals(mode: Mode) -> Iterator[None]:
    """Make signals end the program in order: temporary files are removed, and the exit status says what happened.

    For a mode that may be preempted, SIGTERM and SIGUSR1 ask for a new start. (A training saves its state at them. This
    is for the seconds before it begins.) SIGHUP keeps being ignored under ``nohup``. Python ignores the exception of a
    signal that arrives in a finaliser; the signal is sent again.
    """
    last: int = signal.SIGINT

    def preempt(number: int, frame: object) -> NoReturn:
        nonlocal last
        last = number
        raise PreemptedError(f"stopped by {signal.Signals(number).name}; start the same command again")

    def stop(number: int, frame: object) -> NoReturn:
        nonlocal last
        last = number
        raise _Stopped(signal.Signals(number).name)

    def unraisable(what: "sys.UnraisableHookArgs") -> None:
        if issubclass(what.exc_type, (KeyboardInterrupt, _Stopped, PreemptedError)):
            number = signal.SIGINT if issubclass(what.exc_type, KeyboardInterrupt) else last
            # Not now: within this hook it would be ignored again.
            Timer(0.05, os.kill, (os.getpid(), number)).start()
        else:
            hook(what)

    wanted: dict[signal.Signals, Callable[[int, object], NoReturn]] = {signal.SIGTERM: stop, signal.SIGHUP: stop}
    if mode.preemptible:
        wanted |= {signal.SIGTERM: preempt, signal.SIGUSR1: preempt}
    hook, sys.unraisablehook = sys.unraisablehook, unraisable
    ignored = {number for number in wanted if signal.getsignal(number) is signal.SIG_IGN}
    before = {number: signal.signal(number, wanted[number]) for number in wanted.keys() - ignored}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the ``phaze_ee`` command and return the exit status."""
    if completion.asked():
        completion.complete(parser_of)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without ± or → shows a question mark
    request = parse(arguments)
    # By default, OpenMP's threads wait for each other in a busy loop. On a machine that others use too, this makes a
    # training on two cores ten times slower; sleeping costs next to nothing. torch reads this when it is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.INFO if request.verbose else logging.WARNING)
    try:
        for word in sys.argv if arguments is None else arguments:
            check_utf8("argument", word)
        check_utf8("the current folder", str(Path.cwd()))
        with _signals(MODES[request.mode]):
            run(request)
    except PhazeError as error:
        _show_traceback(request)
        if not (rank() and isinstance(error, PreemptedError)):  # the first process reports what happens to all
            _report(str(error))
        return error.exit_status
    except OSError as error:  # what no library expected: a full disk under a cache, a file system that went away
        _show_traceback(request)
        _report(f"the system refuses: {error}; -v shows where")
        return 1
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        _show_traceback(request)
        _report(OUT_OF_MEMORY)
        return 1
    except KeyboardInterrupt:
        _tell("phaze_ee: interrupted")
        return 1
    except _Stopped as stopped:
        _tell(f"phaze_ee: stopped by {stopped}")
        return 1
    return 0


def _report(error: str) -> None:
    _tell(f"{_speaker()}: error: {shortened(error)}")


def _tell(line: str) -> None:
    with suppress(OSError):  # the terminal was closed: the exit status still says what happened
        print(line, file=sys.stderr, flush=True)


def _show_traceback(request: Request) -> None:
    if request.verbose:
        traceback.print_exc()
