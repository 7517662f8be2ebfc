"""What ``--seeds N`` does: run a command line on a project for each seed, and summarise them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from phaze_ee.config.options import Options
from phaze_ee.data.stamps import stamp
from phaze_ee.errors import PreemptedError, RunError, UsageError
from phaze_ee.evaluation.over_seeds import summarise
from phaze_ee.machine import core_count, world_size
from phaze_ee.models.checkpoint import load_checkpoint
from phaze_ee.modes.console import console, say, say_in_columns, say_written, show, show_notes
from phaze_ee.modes.mode import Mode
from phaze_ee.modes.plot import write_figures
from phaze_ee.modes.registry import MODES, chained_modes, flags_of
from phaze_ee.modes.seeds_so_far import how_far, judged_seeds, seed_runs
from phaze_ee.modes.session import FileOption, Session
from phaze_ee.names import quantity
from phaze_ee.plots.differences import differences_figure
from phaze_ee.results.seeds import SeedsResults
from phaze_ee.sweep.fleet import Event
from phaze_ee.sweep.process import is_trained, last_line
from phaze_ee.sweep.seeds import SEEDS_LOG, SeedTask, is_complete, note_training, run_seeds, stamp_of, trained_on
from phaze_ee.sweep.trial_project import base_of_seed, make_seed, options_of_seed, seed_project
from phaze_ee.tables.differences import OF_SEEDS, differences_table, seeds_table
from phaze_ee.tables.regression import seeds_target_rows, target_tables
from phaze_ee.training.run import deciding_options
from phaze_ee.workspace import Project, file_hash, find_file

_CORES_PER_SEED = 4
_FOR_THE_PROJECT = ("new_project", "convert")  # run once, before the seeds
_REPORT = "report"
_NOT_WITH_SEEDS = ("retrofit", *_FOR_THE_PROJECT)
_OWN_FLAGS = ("-m", "--mode", "-p", "--project", "-o", "--operations", "--options", "--seeds", "--at-once")
_FILES: tuple[FileOption, ...] = ("train_files", "val_files", "test_files", "calibration_files")


@dataclass(frozen=True)
class Step:
    """Modes that one process runs on each seed, and how many seeds run at once."""

    modes: tuple[str, ...]
    at_once: int


def run(session: Session) -> None:
    """Run the mode of ``-m`` for each seed, and write and print their means and spreads.

    Raises:
        UsageError: the command cannot run with several seeds.
        RunError: a seed failed.
    """
    operations = _operations(session)
    while operations and operations[0].name in _FOR_THE_PROJECT:
        operations[0].run(session.for_mode(operations.pop(0).name))
    wrong = [mode.name for mode in operations if mode.name in _NOT_WITH_SEEDS]
    if wrong:
        raise UsageError(f"mode {wrong[0]!r} works on one project: run it first, then train with --seeds")
    if not operations:
        return
    _check(session)
    base, seeds = session.project, seeds_of(session)
    failed: dict[int, str] = {}
    try:
        for step in _steps(operations, _at_once(session, len(seeds))):
            left = [seed for seed in seeds if seed not in failed or seed_project(base, seed).best_model.is_file()]
            for seed, error in _run_step(session, step, left):
                failed.setdefault(seed, error)
    except (RunError, PreemptedError):  # the command was stopped; show and list must know its seeds
        _summary(base, seeds, failed).write(base.seeds_results)
        raise
    _show(session, seeds, failed)
    if _REPORT in [mode.name for mode in operations]:  # each seed has its own; this one is of the project
        MODES[_REPORT].run(session.for_mode(_REPORT))
    if failed:
        raise RunError(
            f"{quantity(len(failed), 'seed')} of {len(seeds)} failed; their output is in output/logs/{SEEDS_LOG} of "
            "each; the same command tries them again"
        )


def seeds_of(session: Session) -> list[int]:
    """Return the seeds of a project: ``c.seed``, else 0, and the numbers after it."""
    count, first = session.seed_count, session.options.seed or 0
    assert count is not None
    return list(range(first, first + count))


def _operations(session: Session) -> list[Mode]:
    request = session.request
    return chained_modes(request.operations) if request.mode == "chain" else [MODES[request.mode]]


def _check(session: Session) -> None:
    """Refuse what cannot run with several seeds, and files that do not exist, before anything starts."""
    base = base_of_seed(session.project)
    if base is not None:
        raise UsageError(f"project {session.project} is a seed; give --seeds with -p {base.workspace} {base.name}")
    if world_size() > 1:
        raise UsageError("--seeds starts processes of its own; run the command without torchrun")
    if session.request.output is not None:
        raise UsageError("--output is one folder, and each seed has its own; leave it out")
    if session.request.at_once == 0:
        raise UsageError("--at-once 0 is too small; give at least 1")
    for option in _FILES:
        if getattr(session.options, option):
            session.files(option)


def _at_once(session: Session, seeds: int) -> int:
    """Return how many seeds run at once: those of ``--at-once``, else one for each GPU, or for every 4 cores."""
    if session.request.at_once is not None:
        return min(session.request.at_once, seeds)
    import torch

    room = torch.cuda.device_count() if session.device.type == "cuda" else core_count() // _CORES_PER_SEED
    return max(1, min(room, seeds))


def _steps(operations: Sequence[Mode], at_once: int) -> list[Step]:
    """Return the processes of each seed: one for all modes, unless several run at once, which would disturb times."""
    if at_once == 1:
        return [Step(tuple(mode.name for mode in operations), 1)]
    steps: list[Step] = []
    for mode in operations:
        alone = mode.name == "benchmark"
        if steps and not alone and steps[-1].at_once > 1:
            steps[-1] = Step((*steps[-1].modes, mode.name), at_once)
        else:
            steps.append(Step((mode.name,), 1 if alone else at_once))
    return steps


def _run_step(session: Session, step: Step, seeds: Sequence[int]) -> list[tuple[int, str]]:
    """Run some modes on each seed; return the seeds that failed and why.

    Raises:
        UsageError: the first seed was refused. The others have the same options, so they are not tried.
    """
    base = session.project
    words = _words(session, step.modes)
    key = " ".join([*step.modes, *words])
    others = _rests_on(session)
    numbers = {seed_project(base, seed): seed for seed in seeds}
    tasks = [
        SeedTask(seed, project, partial(_left, session, step, seed, words, key, others), partial(_busy, project))
        for project, seed in numbers.items()
    ]
    at_once = f", {step.at_once} at once" if step.at_once > 1 else ""
    say(f"Seeds of {base}: {', '.join(map(str, seeds))}; {' '.join(step.modes)}{at_once}")
    failed: list[tuple[int, str]] = []
    for number, event in enumerate(run_seeds(base.seeds, tasks, key, partial(stamp_of, others=others), step.at_once)):
        reason = "" if event.succeeded else last_line(event.project, SEEDS_LOG)
        if event.refused and number == 0:
            raise UsageError(f"{event.project.name}: {reason}")
        _report(event, reason)
        if not event.succeeded:
            failed.append((numbers[event.project], reason))
    return failed


def _busy(project: Project) -> None:
    say_in_columns(f"{project.name} is left out: another command works on it")


def _report(event: Event, reason: str) -> None:
    if event.succeeded:
        say_in_columns(f"{event.project.name} is done")
    else:
        say_in_columns(f"{event.project.name} failed: {reason}")


def _left(session: Session, step: Step, seed: int, words: Sequence[str], key: str, others: Sequence[str]) -> list[str]:
    """Write the project of a seed, and return the command line of what it has not done yet; empty: nothing."""
    base = session.project
    project = seed_project(base, seed)
    own = {"seed": seed, "seeds": None}
    make_seed(project, base, session.configuration.options(own))
    modes = list(step.modes)
    if "train" in modes and not session.request.fresh:
        options = session.configuration.options({**session.request.flags, **own})
        same_data = trained_on(base.seeds, seed) in (None, others[0])
        if same_data and _is_trained_with(project, options_of_seed(base, options)):
            modes.remove("train")
            words = _words(session, modes)
    if "train" in modes:
        note_training(base.seeds, seed, others[0])
    if "train" not in modes and (not modes or is_complete(base.seeds, seed, project, key, stamp_of(project, others))):
        say_in_columns(f"{project.name} is complete")
        return []
    say_in_columns(f"{project.name} starts with {modes[0]}")
    command = ["-m", modes[0]] if len(modes) == 1 else ["-m", "chain", "-o", "_".join(modes)]
    return [*command, "-p", project.workspace, project.name, *words]


def _is_trained_with(project: Project, options: Options) -> bool:
    """Return whether a training with these options is complete."""
    if not is_trained(project, options):
        return False
    wanted, stored = deciding_options(options), load_checkpoint(project.best_model, trust=True).options
    fields = Options.model_fields
    return all(
        stored.get(name, fields[name].get_default(call_default_factory=True)) == value for name, value in wanted.items()
    )


def _words(session: Session, modes: Sequence[str]) -> list[str]:
    """Return the flags of the command line that some modes take, as they were typed."""
    known = {name: flag for flag in flags_of(MODES[session.request.mode]) for name in flag.names}
    taken = {flag.destination for mode in modes for flag in MODES[mode].flags} if modes else set()
    groups: list[list[str]] = []
    for word in session.request.arguments:
        name = _flag_name(word)
        if not groups or name in known or name in _OWN_FLAGS or name in ("-v", "--verbose"):
            groups.append([])
        groups[-1].append(word)
    kept = []
    for group in groups:
        name = _flag_name(group[0])
        if name not in _OWN_FLAGS and (name not in known or known[name].destination in taken):
            kept += group
    return kept


def _flag_name(word: str) -> str:
    """Return the flag of a word such as ``--seeds=3`` or ``-mtrain``."""
    if word.startswith("--"):
        return word.split("=")[0]
    return word[:2] if word[:2] in ("-m", "-o") else word


def _rests_on(session: Session) -> list[str]:
    """Return what results rest on, beside a seed's own files: a hash of the data configuration, and all files."""
    options = session.options
    found = [str(file_hash(find_file("data_config", options.data_config, session.project.root)))]
    for option in _FILES:
        if getattr(options, option):
            found += [f"{option} {path.absolute()} {stamp(path)}" for path in session.files(option)]
    return found


def _show(session: Session, seeds: Sequence[int], failed: Mapping[int, str]) -> None:
    """Write the results of all seeds, and print and draw their means if there are any."""
    base = session.project
    results = _summary(base, seeds, failed)
    results.write(base.seeds_results)
    show_results(results)
    say_written(base.seeds_results)
    if results.differences is not None:
        write_figures({"seeds": partial(differences_figure, results.differences)}, base.seeds)


def _summary(base: Project, seeds: Sequence[int], failed: Mapping[int, str]) -> SeedsResults:
    runs = seed_runs(base, seeds, failed)
    return summarise(base.name, runs, judged_seeds(base, runs))


def show_results(results: SeedsResults) -> None:
    """Print how far the seeds are, and their means and spreads if there are any."""
    say(f"Seeds: {how_far(results.runs)}")
    if results.exits:
        show(seeds_table(results))
    for table in target_tables(seeds_target_rows(results.exits), OF_SEEDS):
        console.print()
        show(table)
    if results.differences is not None:
        console.print()
        show(differences_table(results.differences, f"{results.project}: accuracy minus that of the full model"))
    show_notes(results.notes)
