"""The command line: the flags, the table of modes, and what an error looks like."""

import argparse
import importlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from phaze_ee import __version__
from phaze_ee.errors import PhazeError, PreemptedError, UsageError
from phaze_ee.modes.request import Request

MODES = {
    "demo": "the whole main job on the bundled sample jets, in two to four minutes",
    "new_project": "create a project with a configuration that runs as it stands",
    "convert": "turn the jets of a project into a cache that is read many times as fast",
    "find_lr": "find a learning rate to start from (Lightning's range test)",
    "train": "train the network and its exits",
    "retrofit": "put exits on published weights; only they learn",
    "place": "find where exits pay: all subsets of stages, judged",
    "calibrate": "choose where jets leave, so that a promise is kept",
    "evaluate": "accuracy, AUC, rejections … of every exit",
    "predict": "answers for any files of jets, as ROOT or parquet",
    "benchmark": "operations and parameters of every exit",
    "plot": "draw the results of one project",
    "compare": "draw the results of several projects together",
    "chain": "several modes in a row, see -o",
    "sweep": "search over options, each trial a project (extra 'sweep')",
    "generate": "make JetClass-like jets with Pythia8 (extra 'generate')",
}

# Modes that read the configuration of a project that exists.
_CONFIGURED = ("convert", "find_lr", "train", "place", "calibrate", "evaluate", "predict", "benchmark", "sweep")
# Modes of a training; a batch system may stop them, and is told by the exit status that they want to go on.
_PREEMPTIBLE = ("train", "retrofit", "chain", "sweep")

_EXAMPLES = """\
examples:
  phaze_ee -m demo
  phaze_ee -m new_project -p JetClass first
  phaze_ee -m chain -p JetClass first -o train_calibrate_evaluate_benchmark_plot
  phaze_ee -m retrofit -p JetClass published --checkpoint ParticleNet_full.pt
  phaze_ee -m compare -p JetClass all --projects first second
  phaze_ee -m sweep -p JetClass first --set lr=1e-3:1e-2:log --trials 10
  phaze_ee -m generate --output jets --jets 1000 --classes HToBB ZJetsToNuNu

Projects live in ./phaze_ee/workspaces, or in $PHAZE_EE_WORKSPACES.
Exit status: 0 done, 1 a run failed, 2 something to correct (the message says what).
"""


class _Parser(argparse.ArgumentParser):
    """Reports a wrong flag as every other error is reported: in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(UsageError.exit_status, f"{self.prog}: error: {message}; phaze_ee --help shows the usage\n")


class _OneMode(argparse.Action):
    """Refuses a second mode, which would silently take the place of the first."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        if (first := getattr(namespace, self.dest)) is not None:
            parser.error(f"-m is given twice; for several modes: -m chain -o {first}_{values}")
        setattr(namespace, self.dest, values)


def _parser() -> argparse.ArgumentParser:
    modes = "\n".join(f"  {name:<12} {summary}" for name, summary in MODES.items())
    parser = _Parser(
        prog="phaze_ee",
        description=f"Early exits for jet taggers: train them, judge them, skip the work.\n\nmodes:\n{modes}",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "-m",
        "--mode",
        required=True,
        action=_OneMode,
        type=_mode,
        choices=MODES,
        metavar="MODE",
        help="what to do, see above",
    )
    parser.add_argument("-p", "--project", nargs=2, metavar=("WORKSPACE", "PROJECT"), help="the project to work on")
    parser.add_argument(
        "--projects", nargs="+", default=[], metavar="NAME", help="compare: projects to draw; plot: to add"
    )
    parser.add_argument(
        "-o",
        "--operations",
        "--options",
        default="train_evaluate_benchmark_plot",
        metavar="A_B_C",
        help="chain: the modes, joined by '_' (default: %(default)s)",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log more, and show tracebacks")
    parser.add_argument("--version", action="version", version=f"phaze_ee {__version__}")
    _add_train_flags(parser.add_argument_group("train and retrofit"))
    _add_calibrate_flags(parser.add_argument_group("calibrate (each goes before the option of the configuration)"))
    _add_evaluate_flags(parser.add_argument_group("evaluate"))
    _add_predict_flags(parser.add_argument_group("predict"))
    _add_generate_flags(parser.add_argument_group("generate"))
    _add_sweep_flags(parser.add_argument_group("sweep"))
    _add_file_flags(parser.add_argument_group("predict and generate"))
    return parser


def _mode(name: str) -> str:
    near = get_close_matches(name, MODES, n=1)
    if near and near[0] != name:
        raise argparse.ArgumentTypeError(f"invalid choice: {name!r}, did you mean {near[0]!r}?")
    return name  # what resembles no mode, argparse refuses with the list of all


# Flags that stand for an option of the configuration.
_OPTION_FLAGS = {
    "target": "exit_target",
    "epsilon": "epsilon",
    "delta": "delta",
    "score": "exit_score",
    "signal": "signal",
    "efficiency": "signal_efficiency",
    "form": "exit_form",
    "budget": "cost_budget",
}

# The modes that look at a flag, where not all do.
_PREDICT_FLAGS = ("files", "format", "exit_scores", "observers", "monitor", "scheduler")
_BUDGET_FLAGS = ("event_budget", "event_size", "event_column", "max_exit")
_FLAG_MODES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_OPTION_FLAGS, ("calibrate", "chain")),
    **dict.fromkeys((*_PREDICT_FLAGS, *_BUDGET_FLAGS), ("predict", "chain")),
    **dict.fromkeys(("ood", "ood_data_config"), ("evaluate", "chain")),
    **dict.fromkeys(("jets", "classes", "seed", "generator"), ("generate",)),
    "checkpoint": ("retrofit", "chain"),
    **dict.fromkeys(("fresh", "yes"), ("train", "retrofit", "chain")),
    **dict.fromkeys(("set", "trials", "storage", "study", "objective"), ("sweep",)),
    "projects": ("compare", "plot", "chain"),
}


def _add_train_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--checkpoint", type=Path, metavar="FILE", help="retrofit: weights of weaver's, or our model")
    group.add_argument("--fresh", action="store_true", help="start anew where an interrupted training could go on")
    group.add_argument("--yes", action="store_true", help="do not ask before")


def _add_calibrate_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--target", metavar="TARGET", help="accuracy_drop, agreement, signal_efficiency or budget")
    group.add_argument("--epsilon", type=float, metavar="E", help="largest probability of a loss")
    group.add_argument("--delta", type=float, metavar="D", help="the promise may be broken with this probability")
    group.add_argument("--score", metavar="SCORE", help="confidence, entropy, margin, patience, gate or window")
    group.add_argument("--signal", metavar="CLASS", help="signal_efficiency: the signal, e.g. label_Hbb")
    group.add_argument("--efficiency", type=float, metavar="E", help="signal_efficiency: that of the full model")
    group.add_argument("--form", metavar="FORM", help="signal_efficiency: reject or two_sided")
    group.add_argument("--budget", type=float, metavar="C", help="budget: mean cost as a share of the full model's")


def _add_evaluate_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--ood", nargs="+", default=[], metavar="PATTERN", help="files of jets that the network should find strange"
    )
    group.add_argument("--ood-data-config", metavar="YAML", help="how they are read, if not as the project's jets")


def _add_predict_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--files", nargs="+", default=[], metavar="PATTERN", help="files of jets (default: test_files)")
    group.add_argument(
        "--format", choices=("root", "parquet"), default="root", help="of the predictions (default: root)"
    )
    group.add_argument("--exit-scores", action="store_true", help="write the scores of every exit on the way too")
    group.add_argument(
        "--observers", nargs="*", metavar="NAME", help="columns to pass on, instead of the data config's"
    )
    group.add_argument(
        "--event-budget", metavar="B", help="what the jets of an event may cost together: 200M (MACs), or 5ms"
    )
    group.add_argument("--event-size", type=int, metavar="N", help="N jets in a row are an event")
    group.add_argument("--event-column", metavar="NAME", help="jets in a row with the same value are an event")
    group.add_argument("--max-exit", type=int, metavar="K", help="no jet goes deeper than exit K")
    group.add_argument(
        "--monitor",
        nargs="?",
        type=float,
        const=1e-3,
        metavar="SIGNIFICANCE",
        help="warn if the jets differ from the calibration jets (default: 0.001, of any false alarm)",
    )
    group.add_argument("--scheduler", metavar="ADDRESS", help="use the Dask cluster there (extra 'dask')")


def _add_sweep_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUES", help="a,b,c or low:high[:log|:int]; once an option"
    )
    group.add_argument("--trials", type=int, metavar="N", help="how many (default: 20; of choices, all combinations)")
    group.add_argument(
        "--objective",
        default="full_model",
        metavar="WHAT",
        help="validation accuracy to make large: full_model, exits (their mean), or of the best exit within 50M MACs",
    )
    group.add_argument("--study", default="sweep", metavar="NAME", help="name of the sweep (default: %(default)s)")
    group.add_argument("--storage", metavar="FILE", help="where it is kept, or the URL of a database")


def _add_file_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--output", type=Path, metavar="FOLDER", help="where files go (default: in the project)")
    group.add_argument(
        "--workers", type=int, metavar="N", help="parallel processes (predict: extra 'dask'; sweep: trials at once)"
    )
    group.add_argument("--overwrite", action="store_true", help="replace files of an earlier run")


def _add_generate_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--jets", type=int, metavar="N", help="jets per class")
    group.add_argument("--classes", nargs="+", metavar="NAME", help="as JetClass names its files (default: all ten)")
    group.add_argument("--seed", type=int, metavar="N", help="same seed, same jets")
    group.add_argument(
        "--generator", choices=("reference", "fast"), default="reference", help="fast: overlaid underlying event"
    )


def parse(arguments: Sequence[str] | None = None) -> Request:
    """Read the command line; what argparse rejects ends the program with status 2."""
    parser = _parser()
    flags = vars(parser.parse_args(arguments))
    _refuse_strays(parser, flags)
    workspace, project = flags.pop("project") or (None, None)
    given = {option: flags.pop(flag) for flag, option in _OPTION_FLAGS.items()}
    options = {name: value for name, value in given.items() if value is not None}
    return Request(workspace=workspace, project=project, flags=options, **flags)


def _refuse_strays(parser: argparse.ArgumentParser, flags: dict[str, Any]) -> None:
    """End the program at a flag that its mode does not look at: who gave it expects something of it."""
    for flag, modes in _FLAG_MODES.items():
        if flags[flag] != parser.get_default(flag) and flags["mode"] not in modes:
            parser.error(f"--{flag.replace('_', '-')} belongs to {' and '.join(modes)}, not to {flags['mode']}")


def run(request: Request) -> None:
    """Run one mode; its module, and all that is heavy, is imported only now."""
    if request.mode in _CONFIGURED:
        # what is wrong in a configuration shows at once, and not after seconds of imports
        load_options = importlib.import_module("phaze_ee.config.load").load_options
        load_options(request.existing_project.config, request.flags)
    importlib.import_module(f"phaze_ee.modes.{request.mode}").run(request)


def _rank() -> int:
    """Return which of several processes this is, as torchrun says it."""
    return int(os.environ.get("RANK", "0"))


def _speaker() -> str:
    return f"phaze_ee, process {_rank()}" if _rank() else "phaze_ee"


@contextmanager
def _preemptible() -> Iterator[None]:
    """Let a batch system's signals end the program with the status of what goes on when it is started again.

    A training saves its state at such a signal; this is for the seconds before it begins.
    """

    def stop(number: int, frame: object) -> NoReturn:
        raise PreemptedError(f"stopped by {signal.Signals(number).name}; start the same command again")

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the ``phaze_ee`` command; return the exit status."""
    request = parse(arguments)
    # OpenMP's threads wait for each other in a busy loop by default. On a machine that others use too, that makes a
    # training on two cores ten times slower; sleeping costs next to nothing. Read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.INFO if request.verbose else logging.WARNING)
    try:
        with _preemptible() if request.mode in _PREEMPTIBLE else nullcontext():
            run(request)
    except PhazeError as error:
        if request.verbose:
            traceback.print_exc()
        if not (_rank() and isinstance(error, PreemptedError)):  # of what happens to all processes, the first tells
            print(f"{_speaker()}: error: {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:  # what no library expected: a full disk under a cache, a file system that went away
        if request.verbose:
            traceback.print_exc()
        print(f"{_speaker()}: error: the system refuses: {error}; -v shows where", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("phaze_ee: interrupted", file=sys.stderr)
        return 1
    return 0
