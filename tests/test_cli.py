"""The command line: modes, flags, exit statuses, and how little it imports."""

import dataclasses
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from phaze_ee import cli
from phaze_ee.atomic import replacing
from phaze_ee.config.options import Options
from phaze_ee.errors import CheckpointError, DataError, PhazeError, PreemptedError, RunError, UsageError
from phaze_ee.modes import new_project
from phaze_ee.modes.mode import Mode
from phaze_ee.modes.registry import MODES, chained_modes, flags_of
from phaze_ee.modes.request import Request
from phaze_ee.modes.session import Session

HEAVY = {"torch", "lightning", "weaver", "matplotlib", "mplhep", "uproot", "awkward", "pydantic", "numpy", "rich"}
CONTRACT_MODES = ("new_project", "train", "evaluate", "benchmark", "plot", "compare", "chain")


def stop_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def run(session: Session) -> None:
        raise error

    monkeypatch.setattr(new_project, "run", run)


def interpreter(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


def test_help_imports_nothing_heavy_and_lists_every_mode() -> None:
    program = (
        "import sys\nfrom phaze_ee.cli import main\n"
        "try:\n    main(['--help'])\nfinally:\n"
        f"    print('IMPORTED', *sorted({HEAVY!r} & set(sys.modules)))"
    )
    result = interpreter("-c", program)
    assert result.returncode == 0
    assert result.stdout.rstrip().endswith("IMPORTED")
    starts = {
        result.stdout.index(f" {mode.summary}\n") - result.stdout.index(f"\n  {mode.name} ") for mode in MODES.values()
    }
    assert len(starts) == 1  # the summaries stand in one column
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "examples:" in result.stdout


def test_the_module_is_the_command() -> None:
    result = interpreter("-m", "phaze_ee", "-m", "nonsense")
    assert result.returncode == 2
    assert result.stderr.startswith("phaze_ee: error: argument -m/--mode: invalid choice: 'nonsense' (choose from ")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_without_a_letter_shows_another_one(encoding: str) -> None:
    program = "from phaze_ee import cli\ncli.run = lambda request: print('0.9 ± 0.1 → 1')\ncli.main(['-m', 'list'])"
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, env=environment)
    assert result.stdout.decode(encoding).rstrip() == "0.9 ± 0.1 → 1".encode(encoding, "replace").decode(encoding)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_has_a_module_that_runs_it(mode: str) -> None:
    assert callable(importlib.import_module(f"phaze_ee.modes.{mode}").run)


def test_every_mode_of_the_contract_is_there() -> None:
    assert set(CONTRACT_MODES) <= set(MODES)


@pytest.mark.parametrize("flag", ["-o", "--operations", "--options"])
def test_the_flags_of_the_contract(flag: str) -> None:
    request = cli.parse(["-m", "chain", "-p", "W", "P", flag, "train_plot", "--projects", "a", "b", "-v"])
    assert request == Request("chain", "W", "P", projects=["a", "b"], operations="train_plot", verbose=True)


def test_the_long_flags_of_the_contract() -> None:
    request = cli.parse(["--mode", "compare", "--project", "W", "dummy", "--projects", "a", "--verbose"])
    assert request == Request("compare", "W", "dummy", projects=["a"], verbose=True)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "the following arguments are required: -m/--mode"),
        (["-m", "trian"], "invalid choice: 'trian', did you mean 'train'?"),
        (["-m", "train", "-p", "W"], "argument -p/--project: expected 2 arguments"),
        (["-m", "train", "-p", "W", "P", "--verb"], "unrecognized arguments: --verb"),
        (["-m", "train", "-p", "W", "P", "--fressh"], "--fressh, did you mean --fresh?"),
        (["-m", "train", "-p", "W", "P", "--epochs", "1"], "--epochs is no flag of train; set c.epochs in the config"),
        (["-m", "calibrate", "-p", "W", "P", "--epsilom", "0.1"], "--epsilom 0.1, did you mean --epsilon?"),
        (["-m", "calibrate", "-p", "W", "P", "--epsilom=0.1"], "--epsilom=0.1, did you mean --epsilon?"),
        (
            ["-m", "calibrate", "-p", "W", "P", "-o", "signal_efficency"],
            "-o belongs to chain, not to calibrate, did you mean --target signal_efficiency?",
        ),
        (
            ["-m", "chain", "-p", "W", "P", "-o", "signal_efficency"],
            "unknown operation 'signal' in -o 'signal_efficency', did you mean --target signal_efficiency?",
        ),
        (["-m", "chain", "-p", "W", "P", "-o", "train_calibrat"], "did you mean 'calibrate'?"),
        (["-m", "show", "-p", "W", "P", "-p", "W", "Q"], "-p is given twice: W P and W Q; give one project"),
        (["-m", "generate", "--jets", "many"], "argument --jets: invalid int value: 'many'"),
    ],
)
def test_a_wrong_flag_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], arguments: Sequence[str], expected: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("phaze_ee: error: ")
    assert expected in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [(UsageError("x"), 2), (DataError("x"), 2), (CheckpointError("x"), 2), (RunError("x"), 1), (PhazeError("x"), 2)],
)
def test_exit_status_and_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: PhazeError, status: int
) -> None:
    stop_with(monkeypatch, error)
    assert cli.main(["-m", "new_project", "-p", "W", "P"]) == status
    assert capsys.readouterr().err == "phaze_ee: error: x\n"


@pytest.mark.parametrize(
    ("error", "printed"), [(RunError("x"), "phaze_ee, process 3: error: x\n"), (PreemptedError("x"), "")]
)
def test_of_several_processes_one_tells_what_happens_to_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: PhazeError, printed: str
) -> None:
    monkeypatch.setenv("RANK", "3")
    stop_with(monkeypatch, error)
    assert cli.main(["-m", "new_project", "-p", "W", "P"]) == error.exit_status
    assert capsys.readouterr().err == printed


def test_verbose_shows_the_traceback_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stop_with(monkeypatch, DataError("bad file"))
    assert cli.main(["-m", "new_project", "-p", "W", "P", "-v"]) == 2
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert printed.endswith("phaze_ee: error: bad file\n")


def test_what_the_system_refuses_is_one_line_and_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stop_with(monkeypatch, OSError(28, "No space left on device", "cache.nbi"))
    assert cli.main(["-m", "new_project"]) == 1
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert "No space left on device: 'cache.nbi'" in text


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
)
def test_too_little_memory_is_one_line_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    stop_with(monkeypatch, error)
    assert cli.main(["-m", "new_project", "-p", "W", "P"]) == 1
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert "there is not enough memory; lower c.batch_size" in text


def test_an_error_of_ours_is_not_taken_for_one_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    stop_with(monkeypatch, RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["-m", "new_project", "-p", "W", "P"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_any_mode_in_order(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, number: signal.Signals
) -> None:
    def run(request: Request) -> None:
        with replacing(tmp_path / "result.json") as temporary:
            temporary.write_text("{", encoding="utf-8")
            os.kill(os.getpid(), number)
            time.sleep(10)  # the handler runs before this ends

    before = signal.getsignal(number)
    monkeypatch.setattr(cli, "run", run)
    assert cli.main(["-m", "evaluate", "-p", "W", "P"]) == 1
    assert capsys.readouterr().err == f"phaze_ee: stopped by {number.name}\n"
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(number) is before


def test_ctrl_c_in_a_finaliser_is_not_lost(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Interrupted:
        def __del__(self) -> None:
            raise KeyboardInterrupt

    def run(request: Request) -> None:
        Interrupted()
        time.sleep(10)

    monkeypatch.setattr(cli, "run", run)
    assert cli.main(["-m", "evaluate", "-p", "W", "P"]) == 1
    assert capsys.readouterr().err == "phaze_ee: interrupted\n"


@pytest.mark.parametrize("mode", ["evaluate", "train"])  # the second may be preempted
def test_sigterm_in_a_finaliser_is_not_lost(
    mode: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Stopped:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    def run(request: Request) -> None:
        Stopped()
        time.sleep(10)

    monkeypatch.setattr(cli, "run", run)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a job that a script runs in the background
    try:
        assert cli.main(["-m", mode, "-p", "W", "P"]) == (85 if mode == "train" else 1)
    finally:
        signal.signal(signal.SIGINT, before)
    assert "stopped by SIGTERM" in capsys.readouterr().err


def test_interrupting_is_one_line_and_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stop_with(monkeypatch, KeyboardInterrupt())
    assert cli.main(["-m", "new_project", "-p", "W", "P"]) == 1
    assert capsys.readouterr().err == "phaze_ee: interrupted\n"


def test_success_is_status_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path))
    assert cli.main(["-m", "new_project", "-p", "W", "P"]) == 0
    assert str(tmp_path / "W" / "P" / "config" / "P_config.py") in capsys.readouterr().out


@pytest.mark.parametrize("spelling", ["new_project_train", "newproject_train"])
def test_both_spellings_of_new_project_chain(spelling: str) -> None:
    assert chained_modes(spelling) == [MODES["new_project"], MODES["train"]]


@pytest.mark.parametrize(
    ("operations", "unknown"), [("train_evalate", "evalate"), ("", ""), ("train__plot", ""), ("demo", "demo")]
)
def test_an_unknown_operation_is_named_before_anything_runs(operations: str, unknown: str) -> None:
    with pytest.raises(UsageError, match=f"unknown operation {unknown!r}"):
        chained_modes(operations)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-m", "calibrate", "--files", "x.root"], "--files belongs to predict and monitor, not to calibrate"),
        (["-m", "predict", "--epsilon", "0.1"], "--epsilon belongs to calibrate, not to predict"),
        (["-m", "predict", "--ood", "x.root"], "--ood belongs to evaluate, not to predict"),
        (["-m", "train", "--exit-scores"], "--exit-scores belongs to predict, not to train"),
        (["-m", "train", "--overwrite", "-o", "plot"], "--overwrite belongs to predict and generate, not to train"),
        (["-m", "train", "--workers=3"], "--workers belongs to convert, predict, sweep and generate, not to train"),
        (["-m", "evaluate", "-o", "plot"], "-o belongs to chain, not to evaluate"),
        (
            ["-m", "chain", "-o", "train_plot", "--epsilon", "0.1"],
            "--epsilon belongs to calibrate, which -o train_plot",
        ),
        (["-m", "chain", "-o", "train_plot", "--workers", "2"], "--workers belongs to convert and predict, which -o t"),
        (["-m", "chain", "-o", "train_demo"], "unknown operation 'demo' in -o 'train_demo'"),
    ],
)
def test_flags_of_another_mode_are_refused(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.parse(["-p", "W", "p", *flags])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_help_of_a_mode_shows_its_flags_alone(
    mode: Mode, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        cli.parse(["-m", mode.name, "--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    words = set(printed.replace(",", " ").split())
    shown = {flag.name for other in MODES.values() for flag in other.flags if flag.name in words}
    assert shown == {flag.name for flag in flags_of(mode)}
    assert f"{mode.name}:" in words


def test_a_flag_is_explained_as_the_mode_takes_it() -> None:
    helps = {mode.name: {flag.name: flag.help for flag in flags_of(mode)} for mode in MODES.values()}
    told = {name for name, flags in helps.items() if "each epoch" in flags.get("--details", "")}
    assert told == {"demo", "train", "retrofit", "chain"}
    expected = f"convert: {helps['convert']['--workers']}; predict: {helps['predict']['--workers']}"
    assert helps["chain"]["--workers"] == expected
    assert helps["chain"]["--policy"] == helps["predict"]["--policy"]


def test_each_flag_sets_an_option_or_a_field_of_the_request() -> None:
    fields = {field.name for field in dataclasses.fields(Request)}
    for mode in MODES.values():
        for flag in mode.flags:
            assert flag.destination in (Options.model_fields if flag.option else fields), flag


def test_flags_that_stand_for_options_are_options_of_the_request() -> None:
    request = cli.parse(["-m", "calibrate", "-p", "W", "P", "--epsilon", "0.1", "--target", "agreement"])
    assert request == Request("calibrate", "W", "P", flags={"epsilon": 0.1, "exit_target": "agreement"})


def test_a_configuration_is_run_once_in_a_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path))
    config = tmp_path / "W/P/config/P_config.py"
    config.parent.mkdir(parents=True)
    config.write_text(
        "def set_config(c):\n    print('set_config runs')\n    c.train_files = ['sample_jets/train/*.root']\n"
        "    c.val_files = ['sample_jets/val/*.root']"
    )
    for mode in ("train", "calibrate", "evaluate"):
        monkeypatch.setattr(f"phaze_ee.modes.{mode}.run", lambda session: session.options)
    assert cli.main(["-m", "chain", "-p", "W", "P", "-o", "train_calibrate_evaluate"]) == 0
    assert capsys.readouterr().out.count("set_config runs") == 1


def test_a_second_mode_is_refused_with_what_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["-m", "train", "-m", "evaluate", "-p", "W", "P"])
    assert stopped.value.code == 2
    assert "-m chain -o train_evaluate" in capsys.readouterr().err


def test_a_wrong_configuration_shows_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    config = tmp_path / "W/P/config/P_config.py"
    config.parent.mkdir(parents=True)
    config.write_text("def set_config(c):\n    c.lr = -1\n    c.train_files = c.val_files = ['*.root']")
    program = (
        "import sys; from phaze_ee.cli import main; "
        f"print(main(sys.argv[1:]), *({HEAVY - {'pydantic'}!r} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program, "-m", "train", "-p", "W", "P"]
    own = {**os.environ, "PHAZE_EE_WORKSPACES": str(tmp_path)}
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=own)
    assert result.stdout == "2\n"
    assert "lr" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_batch_system_that_stops_a_training_before_it_begins_is_asked_to_start_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    monkeypatch.setattr(cli, "run", lambda request: os.kill(os.getpid(), number))
    assert cli.main(["-m", "train", "-p", "W", "P"]) == 85
    assert f"stopped by {number.name}; start the same command again" in capsys.readouterr().err
    assert signal.getsignal(number) is before
