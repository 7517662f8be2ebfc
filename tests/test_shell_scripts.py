"""The shell scripts, installed with uv and with pip, with a SLURM that records what it is asked to run."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from phaze_ee.config.load import load_options

SCRIPTS = Path(__file__).resolve().parents[1] / "shell_scripts"
STRATEGIES = ("mimic_detached", "mimic_flow", "target_detached", "target_flow")

# Projects are made in earnest; everything that would take time is only written down. It stands in for uv, and for the
# programs that pip installs.
_PROGRAM = f"""\
#!/usr/bin/env bash
name=$(basename "$0")
if [[ $name == uv ]]; then
    while [[ $1 != phaze_ee && $1 != torchrun ]]; do shift; done
else
    set -- "$name" "$@"
fi
if [[ -n ${{RANK:-}} ]]; then
    gpu="GPU $LOCAL_RANK/$LOCAL_WORLD_SIZE"
    set -- "process $RANK/$WORLD_SIZE, $gpu, at $MASTER_ADDR:$MASTER_PORT:" "$@"
fi
echo "$@" >>"$RECORD"
if [[ "$*" == *"-m new_project"* ]]; then exec "{sys.executable}" -m "$@"; fi
"""
# Two nodes of two tasks each, one after the other; nothing else starts several.
_SRUN = """\
#!/usr/bin/env bash
echo "$SRUN_CPUS_PER_TASK CPUs" >"$RECORD.cpus"
while [[ $1 == -* ]]; do shift; done
for task in $(seq 0 $((${SLURM_NTASKS:-1} - 1))); do
    SLURM_PROCID=$task SLURM_LOCALID=$((task % 2)) SLURM_NODEID=$((task / 2)) "$@" || exit
done
"""
_SCONTROL = """\
#!/usr/bin/env bash
printf 'node7\\nnode8\\n'
"""


# How a user has installed PHAZE-EE, and what is then found.
INSTALLED = {"uv": ("uv",), "pip": ("phaze_ee", "torchrun")}


@pytest.fixture(params=INSTALLED)
def environment(tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, str]:
    programs = tmp_path / "programs"
    programs.mkdir()
    found = {**dict.fromkeys(INSTALLED[request.param], _PROGRAM), "srun": _SRUN, "scontrol": _SCONTROL}
    for name, text in found.items():
        write(programs / name, text)
    path = f"{programs}:/usr/bin:/bin"
    assert (shutil.which("uv", path=path) is None) == (request.param == "pip")
    own = {"PATH": path, "RECORD": str(tmp_path / "record"), "PHAZE_EE_WORKSPACES": str(tmp_path / "spaces")}
    inherited = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    return {**inherited, **own}


def write(program: Path, text: str) -> None:
    program.write_text(text)
    program.chmod(0o755)


def replace_programs(folder: Path, text: str) -> None:
    """Replace what stands in for PHAZE-EE."""
    for name in ("uv", "phaze_ee", "torchrun"):
        if (folder / "programs" / name).exists():
            write(folder / "programs" / name, text)


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
    "SLURM_NTASKS": "4",
    "SLURM_GPUS_ON_NODE": "2",
    "SLURM_CPUS_PER_TASK": "6",
}
CHAIN = "phaze_ee -m chain -p JetClass first -o evaluate_benchmark_plot"


def test_each_task_of_slurm_is_one_process_of_the_training(environment: dict[str, str], tmp_path: Path) -> None:
    result = run("train_a100.sh", "JetClass", "first", environment=environment | SLURM, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "record").read_text().splitlines() == [
        *(
            f"process {task}/4, GPU {task % 2}/2, at node7:20017: phaze_ee -m train -p JetClass first"
            for task in range(4)
        ),
        CHAIN,  # in no group
    ]
    assert (tmp_path / "record.cpus").read_text() == "6 CPUs\n"
    text = (SCRIPTS / "train_a100.sh").read_text()
    assert "#SBATCH --ntasks-per-node=4\n" in text
    assert "#SBATCH --gpus-per-node=4\n" in text


@pytest.mark.parametrize("script", ["train_a100.sh", "sweep_slurm.sh"])
def test_a_job_that_was_submitted_from_elsewhere_is_one_line(
    script: str, environment: dict[str, str], tmp_path: Path
) -> None:
    own = environment | SLURM | {"SLURM_SUBMIT_DIR": str(tmp_path)}
    result = run(script, "JetClass", "first", environment=own, folder=tmp_path)
    assert result.returncode == 2
    assert result.stderr == f"submitted from {tmp_path}, which is no checkout of PHAZE-EE; submit from the checkout\n"


def test_tasks_without_a_gpu_each_are_refused(environment: dict[str, str], tmp_path: Path) -> None:
    own = environment | SLURM | {"SLURM_GPUS_ON_NODE": "8"}
    result = run("train_a100.sh", "JetClass", "first", environment=own, folder=tmp_path)
    assert result.returncode == 2
    assert "2 tasks but 8 GPUs a node" in result.stderr
    assert "sbatch --ntasks-per-node=8 --gpus-per-node=8" in result.stderr
    assert not (tmp_path / "record").exists()


# A training that saves its state when it is stopped, and ends as torchrun does, whatever its processes end with.
_STOPPABLE = """\
#!/usr/bin/env bash
echo "$@" >>"$RECORD"
[[ "$*" == *"-m train"* ]] || exit 0
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
    replace_programs(folder, _STOPPABLE)
    for name, text in (("scancel", _SCANCEL), ("scontrol", _REQUEUE)):
        write(folder / "programs" / name, text)
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
    one_task = SLURM | {"SLURM_JOB_NUM_NODES": "1", "SLURM_NTASKS": "1", "SLURM_GPUS_ON_NODE": "1"}
    assert stopped("train_a100.sh", signal.SIGUSR1, environment | one_task, tmp_path) == 1
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
    replace_programs(tmp_path, _STOPPABLE)
    arguments = ("JetClass", "first", "0.0005")
    assert run("train_htcondor.sh", *arguments, environment=environment, folder=tmp_path).returncode == 85


@pytest.mark.parametrize(("script", "job"), [("train_a100.sh", SLURM), ("train_htcondor.sh", {"PHAZE_EE_JOB": "17_0"})])
def test_a_job_that_is_started_again_after_its_training_does_not_train_again(
    environment: dict[str, str], tmp_path: Path, script: str, job: dict[str, str]
) -> None:
    for _ in range(2):
        result = run(script, "JetClass", "first", environment=environment | job, folder=tmp_path)
        assert result.returncode == 0, result.stderr
    lines = (tmp_path / "record").read_text().splitlines()
    trained = [line for line in lines if "-m train" in line]
    assert lines == [*trained, CHAIN, CHAIN]
    assert len(trained) == (4 if script == "train_a100.sh" else 1)
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


def test_without_an_answer_sizes_and_sums_are_those_published(environment: dict[str, str], tmp_path: Path) -> None:
    curl = "#!/usr/bin/env bash\nfor _ in 1 2 3; do echo 'curl: (6) no such host' >&2; done\nexit 6\n"
    write(tmp_path / "programs" / "curl", curl)
    result = run("download_jetclass.sh", "--full", "--dry-run", environment=environment, folder=tmp_path)
    assert result.returncode == 0
    # ten archives of 15.2 GB, one of 7.6 and one of 30.4; the largest also stays packed until it is unpacked
    assert "Space needed: 220.4 GB, free in " in result.stdout
    assert "JetClass_Pythia_val_5M.tar  7.6 GB  7235ccb577ed85023ea3ab4d5e6160cf\n" in result.stdout
    assert len(set(re.findall(r"  ([0-9a-f]{32})\n", result.stdout))) == 12
    assert (result.stdout + result.stderr).count("no such host") == 1


def test_an_archive_that_nobody_lists_has_no_size(environment: dict[str, str], tmp_path: Path) -> None:
    write(tmp_path / "programs" / "curl", "#!/usr/bin/env bash\nexit 6\n")
    (tmp_path / "list").write_text("mine.tar\n")
    result = run("download_jetclass.sh", "--list", "list", "--dry-run", environment=environment, folder=tmp_path)
    assert result.returncode == 0
    assert "  mine.tar  size unknown  no checksum\n" in result.stdout
    assert "Space needed: unknown, free in " in result.stdout
