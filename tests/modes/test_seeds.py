"""Several seeds of a project: what runs, what is left to do, what they show."""

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from phaze_ee.cli import main
from phaze_ee.modes.current import read_judged
from phaze_ee.results.differences import ComparisonResults
from phaze_ee.results.seeds import SeedsResults
from phaze_ee.sweep.claim import Claim
from phaze_ee.tables.style import WIDTH, in_percent
from phaze_ee.workspace import Project
from tests.end_to_end.command import fails
from tests.modes.predicting import notes
from tests.modes.two_class_project import make_project
from tests.plots.examples import benchmark_results
from tests.plots.undrawn import write_nothing

Capture = pytest.CaptureFixture[str]
SEEDS = [Project("Tops", f"small_seed{seed}") for seed in (5, 6)]
LINES = ("c.epochs = 3", "c.resume_interval = 1", "c.zero_epochs = 0", "c.seed = 5", "c.tensorboard = False")
# Writes its arguments, and fails for seed 6 where a file says so.
PROGRAM = """#!/bin/sh
shift 2
echo "$@" >> {folder}/runs
case "$*" in *small_seed6*) if [ -e {folder}/fail ]; then echo 'phaze_ee: error: no memory left'; exit 1; fi ;; esac
"""


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return make_project(tmp_path, *LINES)


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in place of the command line; return the file of its arguments."""
    program = tmp_path / "program"
    program.write_text(PROGRAM.format(folder=tmp_path))
    program.chmod(0o755)
    monkeypatch.setattr("phaze_ee.sweep.process.sys.executable", str(program))
    return tmp_path / "runs"


def results(base: Project) -> SeedsResults:
    return SeedsResults.read(base.seeds_results, made_by="train")


def test_interrupted_seeds_go_on_and_every_mode_reads_them(
    base: Project, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    arguments = ["-m", "chain", "-p", "Tops", "small", "-o", "train_evaluate", "--seeds", "2"]
    _interrupt_the_first_training(arguments)
    assert SEEDS[0].resume_point.is_file()
    assert not SEEDS[1].best_model.is_file()
    assert [run.state for run in results(base).runs] == ["waiting", "waiting"]
    assert main(["-m", "show", "-p", "Tops", "small"]) == 0
    assert capsys.readouterr().out.endswith("-o train_calibrate_evaluate_benchmark --seeds 2\n")
    assert main(arguments) == 0
    assert "Resuming from" in (SEEDS[0].logs / "seeds.log").read_text()
    _means_are_those_of_the_seeds(base, capsys)
    models = [project.model_hash for project in SEEDS]
    assert len(set(models)) == 2
    assert main([*arguments[:-2], "--seeds=2"]) == 0  # nothing is done twice
    assert capsys.readouterr().out.count("is complete") == 2
    assert [project.model_hash for project in SEEDS] == models
    assert not list(base.seeds.glob("*.lock"))
    monkeypatch.setattr("phaze_ee.modes.plot.write_drawings", write_nothing)
    for project in SEEDS:
        costs = benchmark_results(("exit_0", "exit_1", "full_model"))
        costs.model_copy(update={"model_hash": project.model_hash}).write(project.benchmark_results)
    _every_mode_reads_them(base, capsys)


def _interrupt_the_first_training(arguments: list[str]) -> None:
    """Stop the command as a batch system does, as soon as the first training has saved its state."""

    def interrupt() -> None:
        while not SEEDS[0].resume_point.is_file():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    assert main(arguments) == 85
    thread.join()


def _means_are_those_of_the_seeds(base: Project, capsys: Capture) -> None:
    found = results(base)
    assert [(run.seed, run.project, run.state) for run in found.runs] == [
        (5, "small_seed5", "evaluated"),
        (6, "small_seed6", "evaluated"),
    ]
    exits = [read_judged(project)[0].exits for project in SEEDS]
    for name, over in found.exits.items():
        accuracies = [own[name].accuracy for own in exits]
        assert over.accuracy.values == accuracies
        assert over.accuracy.mean == pytest.approx(np.mean(accuracies))
        assert over.accuracy.spread == pytest.approx(np.std(accuracies, ddof=1))
    assert found.differences is not None
    assert [answer.name for answer in found.differences.answers] == ["full model", "exit 0", "exit 1"]
    assert all(contrast.paired for contrast in found.differences.contrasts)
    assert (base.seeds / "seeds.png").is_file()
    printed = capsys.readouterr().out
    tables = printed[printed.index("small: mean of 2 seeds") : printed.rindex("Written")].split("Written")[0]
    assert max(map(len, tables.splitlines())) <= WIDTH


def _every_mode_reads_them(base: Project, capsys: Capture) -> None:
    assert main(["-m", "list", "-p", "Tops"]) == 0
    listed = capsys.readouterr().out
    assert "seeds: 2 of 2" in listed
    assert "small_seed5" not in listed
    assert main(["-m", "show", "-p", "Tops", "small"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines()[1:])) <= WIDTH  # without the path of the configuration
    assert "Seeds: 2 evaluated of 2: projects small_seed5 … small_seed6, each like any other" in notes(shown)
    assert shown.endswith("Next:     phaze_ee -m report -p Tops small\n")
    assert main(["-m", "plot", "-p", "Tops", "small_seed5", "--details"]) == 0
    assert "performance/differences.png" in capsys.readouterr().out
    assert main(["-m", "compare", "-p", "Tops", "all"]) == 0
    assert "small: mean of 2 seeds" in capsys.readouterr().out
    assert main(["-m", "compare", "-p", "Tops", "all", "--projects", "small", "small_seed5"]) == 0
    printed = capsys.readouterr().out
    tables = printed[: printed.index("Note")]
    assert max(map(len, tables.splitlines())) <= WIDTH
    written = ComparisonResults.read(base.comparisons / "comparison_results.json", made_by="compare")
    reference, other = written.full_models.answers
    assert reference.seeds == results(base).exits["full_model"].accuracy.values
    assert other.difference is not None
    assert other.difference.paired
    assert other.difference.value == pytest.approx(reference.seeds[0] - np.mean(reference.seeds))
    assert "is a seed; give --seeds with -p Tops small" in fails(
        capsys, 2, "-m", "evaluate", "-p", "Tops", "small_seed5", "--seeds", "2"
    )
    assert "it has seeds: add --seeds" in fails(capsys, 2, "-m", "evaluate", "-p", "Tops", "small")
    _reports_show_the_seeds(base, reference.seeds)


def _reports_show_the_seeds(base: Project, accuracies: list[float]) -> None:
    mean = in_percent(float(np.mean(accuracies)), float(np.std(accuracies, ddof=1))).replace(" ", "\u00a0")
    assert main(["-m", "report", "-p", "Tops", "small"]) == 0
    page = base.report.read_text(encoding="utf-8")
    assert "<title>Tops/small, 2 seeds</title>" in page
    assert f"<b>{mean}</b>" in page
    assert "phaze_ee -m report -p Tops small_seed5" in page
    assert main(["-m", "report", "-p", "Tops", "small", "--projects", "small_seed5"]) == 0
    page = (base.comparisons / "report.html").read_text(encoding="utf-8")
    assert "small: mean of 2 seeds; ±: standard deviation over them" in page
    assert f"<td>{mean}</td>" in page
    assert f"<td>{100 * (accuracies[0] - np.mean(accuracies)):+.2f}</td>" in page


def test_flags_reach_the_modes_that_take_them(base: Project, stub: Path) -> None:
    options = ("--seeds", "2", "--at-once=2", "-v", "--extra-selection-test", "jet_id > 3", "--epsilon=0.1", "--trust")
    assert main(["-m", "chain", *options, "-o", "train_calibrate_benchmark", "-p", "Tops", "small"]) == 0
    runs = sorted(stub.read_text().splitlines())
    for seed in (5, 6):
        name = f"-p Tops small_seed{seed} -v --extra-selection-test jet_id > 3 --epsilon=0.1 --trust"
        assert f"-m chain -o train_calibrate {name}" in runs
    # Nothing is trained, as the program does nothing; the times would be measured one after the other.
    assert len(runs) == 4
    assert "-m benchmark -p Tops small_seed5 -v --trust" in runs


def test_a_seed_that_fails_says_why_and_is_tried_again(base: Project, stub: Path, capsys: Capture) -> None:
    (stub.parent / "fail").touch()
    arguments = ("-m", "evaluate", "-p", "Tops", "small", "--seeds", "2")
    error = fails(capsys, 1, *arguments)
    assert "1 seed of 2 failed" in error
    assert [run.error for run in results(base).runs] == [None, "no memory left"]
    assert main(["-m", "show", "-p", "Tops", "small"]) == 0
    command = "phaze_ee -m chain -p Tops small -o train_calibrate_evaluate_benchmark --seeds 2"
    assert f"Next:     {command}\n" in capsys.readouterr().out
    (stub.parent / "fail").unlink()
    assert main(arguments) == 0
    assert [run.error for run in results(base).runs] == [None, None]
    assert stub.read_text().count("small_seed5") == 1
    assert stub.read_text().count("small_seed6") == 2


def test_what_the_first_seed_refuses_is_not_tried_with_the_others(base: Project, stub: Path, capsys: Capture) -> None:
    program = stub.parent / "program"
    program.write_text(program.read_text() + "echo 'phaze_ee: error: no such exit'; exit 2\n")
    error = fails(capsys, 2, "-m", "evaluate", "-p", "Tops", "small", "--seeds", "100")
    assert "small_seed5: no such exit" in error
    assert len(stub.read_text().splitlines()) == 1


def test_what_was_deleted_is_made_again(base: Project, stub: Path) -> None:
    program = stub.parent / "program"
    made = "".join(f"mkdir -p {project.results}; touch {project.evaluation_results}\n" for project in SEEDS)
    program.write_text(program.read_text() + made)
    arguments = ["-m", "evaluate", "-p", "Tops", "small", "--seeds", "2"]
    for runs in (2, 2):
        assert main(arguments) == 0
        assert len(stub.read_text().splitlines()) == runs
    SEEDS[1].evaluation_results.unlink()
    assert main(arguments) == 0
    assert [line.split()[4] for line in stub.read_text().splitlines()] == ["small_seed5", "small_seed6", "small_seed6"]


def test_what_results_rest_on_decides_whether_they_are_made_again(base: Project, stub: Path) -> None:
    evaluate = ["-m", "evaluate", "-p", "Tops", "small", "--seeds", "2"]
    for change, runs in (
        (lambda: None, 2),
        (lambda: None, 2),
        (lambda: SEEDS[0].best_model.write_bytes(b"another"), 3),
        (lambda: os.utime(base.workspace_root.parent / "val.root", (1, 1)), 5),
        (lambda: base.config.write_text(base.config.read_text() + "    c.epsilon = 0.2\n"), 7),
        (lambda: (base.workspace_root.parent / "fail").touch(), 7),
    ):
        change()
        assert main(evaluate) == 0
        assert len(stub.read_text().splitlines()) == runs
    assert "c.epsilon = 0.2" in SEEDS[1].config.read_text()
    assert main([*evaluate, "--policy", "other"]) == 1  # another command
    (base.seeds / "seed5.json").write_text("{")
    assert main(evaluate) == 0
    assert len(stub.read_text().splitlines()) == 10
    assert json.loads((base.seeds / "seed5.json").read_text()).keys() == {"evaluate"}


def test_a_chain_with_a_report_writes_that_of_the_project_too(base: Project, stub: Path, capsys: Capture) -> None:
    assert main(["-m", "chain", "-o", "evaluate_report", "-p", "Tops", "small", "--seeds", "2"]) == 0
    assert stub.read_text().count("-m chain -o evaluate_report") == 2
    assert f"Written: {base.report}" in " ".join(capsys.readouterr().out.split())
    assert "none (waiting)" in base.report.read_text(encoding="utf-8")


def test_a_seed_that_another_command_works_on_is_left_out(base: Project, stub: Path, capsys: Capture) -> None:
    base.seeds.mkdir(parents=True)
    claim = Claim.take(base.seeds / "seed5.lock")
    assert claim is not None
    assert main(["-m", "evaluate", "-p", "Tops", "small", "--seeds", "2"]) == 0
    claim.release()
    assert "small_seed5 is left out: another command works on it" in " ".join(capsys.readouterr().out.split())
    assert [line.split()[4] for line in stub.read_text().splitlines()] == ["small_seed6"]


def test_files_of_the_project_are_copied_again(base: Project, stub: Path) -> None:
    shutil.copyfile(base.workspace_root.parent / "two_classes.yaml", base.root / "own.yaml")
    lines = base.config.read_text().replace("two_classes.yaml", "no.yaml") + '    c.data_config = "own.yaml"\n'
    base.config.write_text(lines)
    evaluate = ["-m", "evaluate", "-p", "Tops", "small", "--seeds", "2"]
    assert main(evaluate) == 0
    (base.root / "own.yaml").write_text((base.root / "own.yaml").read_text() + "weights:\n")
    assert main(evaluate) == 0
    assert len(stub.read_text().splitlines()) == 4
    assert (SEEDS[0].root / "own.yaml").read_bytes() == (base.root / "own.yaml").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-m", "train", "--seeds", "1"), "seeds: Input should be greater than or equal to 2"),
        (("-m", "train", "--seeds", "32768"), "seeds: Input should be less than or equal to 1000"),
        (("-m", "train", "--seeds", "2", "--at-once", "0"), "--at-once 0 is too small"),
        (("-m", "chain", "--seeds", "2", "-o", "train_predict", "--output", "x"), "each seed has its own"),
        (
            ("-m", "chain", "--seeds", "2", "-o", "train_retrofit", "--checkpoint", "x"),
            "'retrofit' works on one project",
        ),
    ],
)
def test_what_cannot_run_with_seeds_is_refused(
    base: Project, stub: Path, capsys: Capture, arguments: tuple[str, ...], words: str
) -> None:
    assert words in fails(capsys, 2, *arguments, "-p", "Tops", "small")
    assert not stub.exists()


def test_another_project_of_that_name_stays(base: Project, stub: Path, capsys: Capture) -> None:
    SEEDS[0].config.parent.mkdir(parents=True)
    SEEDS[0].config.write_text("def set_config(c): pass\n")
    error = fails(capsys, 2, "-m", "train", "-p", "Tops", "small", "--seeds", "2")
    assert "Tops/small_seed5 is another project, not seed 5 of Tops/small" in error
    assert SEEDS[0].config.read_text() == "def set_config(c): pass\n"


def test_the_configuration_may_ask_for_seeds(base: Project, stub: Path) -> None:
    base.config.write_text(base.config.read_text() + "    c.seeds = 2\n")
    assert main(["-m", "evaluate", "-p", "Tops", "small"]) == 0
    assert len(stub.read_text().splitlines()) == 2
    assert "c.seeds = None" in SEEDS[0].config.read_text()
