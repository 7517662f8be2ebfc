"""The shell scripts, with a SLURM and a ``uv`` that record what they are asked to run."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from phaze_ee.config.load import load_options

SCRIPTS = Path(__file__).resolve().parents[1] / "shell_scripts"
STRATEGIES = ("mimic_detached", "mimic_flow", "target_detached", "target_flow")

# Projects are made in earnest; everything that would take time is only written down.
_UV = f"""\
#!/usr/bin/env bash
while [[ $1 != phaze_ee && $1 != torchrun ]]; do shift; done
echo "$@" >>"$RECORD"
if [[ "$*" == *"-m new_project"* ]]; then exec "{sys.executable}" -m "$@"; fi
"""
_SRUN = """\
#!/usr/bin/env bash
while [[ $1 == -* ]]; do shift; done
exec "$@"
"""
_SCONTROL = """\
#!/usr/bin/env bash
printf 'node7\\nnode8\\n'
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in (("uv", _UV), ("srun", _SRUN), ("scontrol", _SCONTROL)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    own = {"PATH": f"{programs}:{os.environ['PATH']}", "RECORD": str(tmp_path / "record")}
    return {**os.environ, **own, "PHAZE_EE_WORKSPACES": str(tmp_path / "spaces")}


def run(script: str, *arguments: str, environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(SCRIPTS / script), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.sh")), ids=lambda path: path.name)
def test_syntax(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.parametrize(
    "script",
    ["compare_strategies.sh", "example_workflow.sh", "sweep_slurm.sh", "train_a100.sh", "train_htcondor.sh"],
)
def test_help_is_the_comment_at_the_top(script: str, environment: dict[str, str], tmp_path: Path) -> None:
    result = run(script, "--help", environment=environment, folder=tmp_path)
    assert result.returncode == 0
    assert "\nusage: " in result.stdout
    assert "#" not in result.stdout
    assert "set -e" not in result.stdout


@pytest.mark.parametrize("arguments", [["--nonsense", "1"], ["--workspace"], ["--config", "absent.py"]])
def test_wrong_flags_end_with_status_2(arguments: list[str], environment: dict[str, str], tmp_path: Path) -> None:
    result = run("compare_strategies.sh", *arguments, environment=environment, folder=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("compare_strategies.sh: ")
    assert arguments[0] in result.stderr
    assert not (tmp_path / "record").exists()


def test_compare_strategies_configures_trains_and_compares(environment: dict[str, str], tmp_path: Path) -> None:
    arguments = ["--workspace", "w", "--prefix", "p", "--epochs", "3"]
    result = run("compare_strategies.sh", *arguments, environment=environment, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    for strategy in STRATEGIES:
        options = load_options(tmp_path / f"spaces/w/p_{strategy}/config/p_{strategy}_config.py")
        assert (options.exit_loss_strategy, options.epochs) == (strategy, 3)
    projects = [f"p_{strategy}" for strategy in STRATEGIES]
    assert (tmp_path / "record").read_text().splitlines() == [
        *(f"phaze_ee -m new_project -p w {project}" for project in projects),
        *(f"phaze_ee -m chain -p w {project} -o train_evaluate_benchmark_plot" for project in projects),
        f"phaze_ee -m compare -p w all --projects {' '.join(projects)}",
    ]


def test_compare_strategies_starts_from_a_given_config(environment: dict[str, str], tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text("def set_config(c):\n    c.train_files = c.val_files = ['*.root']\n    c.lr = 0.5")
    result = run("compare_strategies.sh", "--config", "own.py", environment=environment, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    config = tmp_path / "spaces/strategies/sample_target_flow/config/sample_target_flow_config.py"
    options = load_options(config)
    assert (options.lr, options.epochs, options.exit_loss_strategy) == (0.5, 50, "target_flow")


def test_compare_strategies_leaves_existing_projects_alone(environment: dict[str, str], tmp_path: Path) -> None:
    existing = tmp_path / "spaces/strategies/sample_mimic_flow"
    existing.mkdir(parents=True)
    result = run("compare_strategies.sh", environment=environment, folder=tmp_path)
    assert result.returncode == 2
    assert "exists already" in result.stderr
    assert list(existing.iterdir()) == []
    assert not (tmp_path / "record").exists()


def test_example_workflow_goes_through_the_modes(environment: dict[str, str], tmp_path: Path) -> None:
    result = run("example_workflow.sh", "--epochs", "2", environment=environment, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    modes = [line.split()[2] for line in (tmp_path / "record").read_text().splitlines()]
    assert modes == ["new_project", "train", "evaluate", "benchmark", "plot"]
    assert load_options(tmp_path / "spaces/example/first/config/first_config.py").epochs == 2


SLURM = {
    "SLURM_SUBMIT_DIR": str(SCRIPTS.parent),
    "SLURM_JOB_ID": "17",
    "SLURM_JOB_NODELIST": "node[7-8]",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_GPUS_ON_NODE": "4",
}
TORCHRUN = (
    "torchrun --nnodes=2 --nproc_per_node=4 --rdzv_backend=c10d --rdzv_id=17 --rdzv_endpoint=node7:20017 "
    "-m phaze_ee -m train -p JetClass first"
)
CHAIN = "phaze_ee -m chain -p JetClass first -o evaluate_benchmark_plot"


def test_slurm_starts_one_torchrun_a_node(environment: dict[str, str], tmp_path: Path) -> None:
    result = run("train_a100.sh", "JetClass", "first", environment=environment | SLURM, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "record").read_text().splitlines() == [TORCHRUN, CHAIN]
    assert "#SBATCH --ntasks-per-node=1\n" in (SCRIPTS / "train_a100.sh").read_text()


# A torchrun that saves its state when it is stopped, and ends as torchrun does, whatever its processes end with.
_STOPPABLE = """\
#!/usr/bin/env bash
while [[ $1 != phaze_ee && $1 != torchrun ]]; do shift; done
echo "$@" >>"$RECORD"
[[ $1 == torchrun ]] || exit 0
models=$PHAZE_EE_WORKSPACES/JetClass/first/output/models
mkdir -p "$models"
trap 'touch "$models/resume.ckpt"; exit 1' TERM
echo $$ >"$RECORD.pid"
while true; do sleep 0.02; done
"""
_SCANCEL = """\
#!/usr/bin/env bash
echo scancel "$@" >>"$RECORD"
kill -TERM "$(cat "$RECORD.pid")"
"""
_REQUEUE = """\
#!/usr/bin/env bash
if [[ $1 == requeue ]]; then echo scontrol "$@" >>"$RECORD"; else echo node7; fi
"""


def stopped(script: str, number: signal.Signals, environment: dict[str, str], folder: Path) -> int:
    """Start a script, send it a signal once the training runs, and return its status."""
    for name, text in (("uv", _STOPPABLE), ("scancel", _SCANCEL), ("scontrol", _REQUEUE)):
        (folder / "programs" / name).write_text(text)
        (folder / "programs" / name).chmod(0o755)
    process = subprocess.Popen(["bash", str(SCRIPTS / script), "JetClass", "first"], cwd=folder, env=environment)
    limit = time.monotonic() + 60
    while not (folder / "record.pid").is_file() or not (folder / "record.pid").read_text():
        assert time.monotonic() < limit
        time.sleep(0.02)
    process.send_signal(number)
    return process.wait(60)


def test_before_its_time_is_over_a_slurm_job_saves_and_goes_back_into_the_queue(
    environment: dict[str, str], tmp_path: Path
) -> None:
    assert stopped("train_a100.sh", signal.SIGUSR1, environment | SLURM, tmp_path) == 1
    assert (tmp_path / "record").read_text().splitlines()[1:] == ["scancel --signal=TERM 17", "scontrol requeue 17"]
    text = (SCRIPTS / "train_a100.sh").read_text()
    assert "#SBATCH --requeue\n" in text
    assert "#SBATCH --signal=B:USR1@120\n" in text


def test_a_slurm_job_whose_training_fails_is_not_started_again(environment: dict[str, str], tmp_path: Path) -> None:
    for name, text in (("srun", "exit 1"), ("scontrol", 'echo "$1" >>"$RECORD"')):
        (tmp_path / "programs" / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
    result = run("train_a100.sh", "JetClass", "first", environment=environment | SLURM, folder=tmp_path)
    assert result.returncode == 1
    assert (tmp_path / "record").read_text() == "show\n"


def test_htcondor_starts_a_process_for_each_gpu(environment: dict[str, str], tmp_path: Path) -> None:
    gpus = {"CUDA_VISIBLE_DEVICES": "GPU-1f,GPU-2e,GPU-3d"}
    result = run("train_htcondor.sh", "JetClass", "first", environment=environment | gpus, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    torchrun = "torchrun --standalone --nproc_per_node=3 -m phaze_ee -m train -p JetClass first"
    assert (tmp_path / "record").read_text().splitlines() == [torchrun, CHAIN]


def test_an_htcondor_job_that_loses_its_machine_asks_to_go_on(environment: dict[str, str], tmp_path: Path) -> None:
    assert stopped("train_htcondor.sh", signal.SIGTERM, environment, tmp_path) == 85
    assert len((tmp_path / "record").read_text().splitlines()) == 1
    submitted = (SCRIPTS / "train_htcondor.sub").read_text()
    assert re.search(r"(?m)^on_exit_remove += ExitBySignal \|\| \(ExitCode != 85\)$", submitted)
    assert re.search(r"(?m)^executable += shell_scripts/train_htcondor.sh$", submitted)


def test_an_htcondor_job_stops_itself_after_its_hours(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "programs" / "uv").write_text(_STOPPABLE)
    arguments = ("JetClass", "first", "0.0005")
    assert run("train_htcondor.sh", *arguments, environment=environment, folder=tmp_path).returncode == 85


@pytest.mark.parametrize(("script", "job"), [("train_a100.sh", SLURM), ("train_htcondor.sh", {"PHAZE_EE_JOB": "17_0"})])
def test_a_job_that_is_started_again_behind_its_training_does_not_train_again(
    environment: dict[str, str], tmp_path: Path, script: str, job: dict[str, str]
) -> None:
    for _ in range(2):
        result = run(script, "JetClass", "first", environment=environment | job, folder=tmp_path)
        assert result.returncode == 0, result.stderr
    programs = [line.split()[0] for line in (tmp_path / "record").read_text().splitlines()]
    assert programs == ["torchrun", "phaze_ee", "phaze_ee"]
    assert "has trained JetClass/first already" in result.stdout


def test_slurm_script_outside_a_job_says_how_to_submit_it(environment: dict[str, str], tmp_path: Path) -> None:
    outside = {name: value for name, value in environment.items() if not name.startswith("SLURM_")}
    result = run("train_a100.sh", "JetClass", "first", environment=outside, folder=tmp_path)
    assert result.returncode == 2
    assert "sbatch shell_scripts/train_a100.sh JetClass first" in result.stderr


SWEEP = ("sweep_slurm.sh", "JetClass", "first", "--set", "lr=1e-3:1e-2:log", "--trials", "8")


def test_a_sweep_in_slurm_goes_on_with_the_study(environment: dict[str, str], tmp_path: Path) -> None:
    slurm = {"SLURM_SUBMIT_DIR": str(SCRIPTS.parent), "SLURM_JOB_ID": "17"}
    result = run(*SWEEP, environment=environment | slurm, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (
        tmp_path / "record"
    ).read_text() == "phaze_ee -m sweep -p JetClass first --set lr=1e-3:1e-2:log --trials 8\n"


def test_a_preempted_sweep_goes_back_into_the_queue(environment: dict[str, str], tmp_path: Path) -> None:
    for name, text in (("srun", "exit 85"), ("scontrol", 'echo "$@" >>"$RECORD"')):
        (tmp_path / "programs" / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
    slurm = {"SLURM_SUBMIT_DIR": str(SCRIPTS.parent), "SLURM_JOB_ID": "17"}
    result = run(*SWEEP, environment=environment | slurm, folder=tmp_path)
    assert result.returncode == 85
    assert (tmp_path / "record").read_text() == "requeue 17\n"


def test_a_sweep_outside_a_job_says_how_to_submit_it(environment: dict[str, str], tmp_path: Path) -> None:
    outside = {name: value for name, value in environment.items() if not name.startswith("SLURM_")}
    result = run(*SWEEP, environment=outside, folder=tmp_path)
    assert result.returncode == 2
    assert "sbatch --array=1-8 shell_scripts/sweep_slurm.sh JetClass first --set" in result.stderr


def test_only_what_is_run_is_executable() -> None:
    executable = {path.name for path in SCRIPTS.glob("*.sh") if os.access(path, os.X_OK)}
    assert executable == {path.name for path in SCRIPTS.glob("*.sh")} - {"common.sh"}


def test_without_an_answer_sizes_are_unknown(environment: dict[str, str], tmp_path: Path) -> None:
    curl = tmp_path / "programs" / "curl"
    curl.write_text("#!/usr/bin/env bash\nfor _ in 1 2 3; do echo 'curl: (6) no such host' >&2; done\nexit 6\n")
    curl.chmod(0o755)
    result = run("download_jetclass.sh", "--full", "--dry-run", environment=environment, folder=tmp_path)
    assert result.returncode == 0
    assert "Space needed: unknown, free in " in result.stdout
    assert " 0.0 GB" not in result.stdout
    assert (result.stdout + result.stderr).count("no such host") == 1
