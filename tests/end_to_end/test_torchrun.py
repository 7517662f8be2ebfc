"""Two processes as torchrun starts them: stopped as a batch system stops them, and started again."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from phaze_ee.results.training import TrainingHistory
from phaze_ee.workspace import Project
from tests.end_to_end.command import SMALL, command, edit, environment

EPOCHS = 4
LIMIT = 120.0  # seconds
CLOSED = "closing signal"  # torchrun's own word on stopping a process


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path))
    assert command(tmp_path, "-m", "new_project", "-p", "w", "p", cwd=tmp_path).returncode == 0
    project = Project("w", "p")
    edit(project, **SMALL | {"epochs": EPOCHS, "seed": None, "resume_interval": 1, "tensorboard": False})
    return project


def torchrun(project: Project, tmp_path: Path) -> subprocess.Popen[str]:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    train = ["-m", "phaze_ee", "-m", "train", "-p", project.workspace, project.name]
    return subprocess.Popen(
        [*launch, *train],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment(tmp_path),
    )


def test_stopped_by_the_batch_system_both_processes_go_on_later(project: Project, tmp_path: Path) -> None:
    first = torchrun(project, tmp_path)
    limit = time.monotonic() + LIMIT
    while not project.resume_point.is_file() and first.poll() is None:
        assert time.monotonic() < limit
        time.sleep(0.02)
    first.send_signal(signal.SIGTERM)
    said, errors = first.communicate(timeout=LIMIT)
    assert first.returncode == 1  # torchrun's; it hides the status that asks to be started again
    assert (
        errors.count("phaze_ee")
        == errors.count("phaze_ee: error: stopped by SIGTERM; the same command continues ")
        == 1
    )
    seed = re.findall(r"seed (\d+)", said)
    assert len(seed) == 1  # one process speaks

    second = torchrun(project, tmp_path)
    said, errors = second.communicate(timeout=LIMIT)
    assert second.returncode == 0, errors
    assert errors == ""
    assert re.findall(r"seed (\d+)", said) == seed
    assert said.count("Resuming from epoch ") == said.count("Best model: ") == 1
    assert "600 jets for each process" in said
    assert len(TrainingHistory.read(project.training_history, "train").epochs) == EPOCHS
    assert not project.resume_point.exists()


# Two tasks of one node, at the same time. It ends with the status of the one that ended worst, as srun does.
_SRUN = """\
#!/usr/bin/env bash
while [[ $1 == -* ]]; do shift; done
for task in 0 1; do
    SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_NODEID=0 "$@" &
done
worst=0
for _ in 0 1; do wait -n || worst=$?; done
exit $worst
"""


def test_the_tasks_of_slurm_train_together_without_torchrun(project: Project, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    phaze_ee = f'#!/usr/bin/env bash\n[[ $* == *"-m train"* ]] || exit 0\nexec {sys.executable} -m phaze_ee "$@"\n'
    for name, text in (
        ("srun", _SRUN), ("scontrol", "#!/usr/bin/env bash\necho localhost\n"), ("phaze_ee", phaze_ee),
    ):  # fmt: skip
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    job = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NODELIST": "localhost", "SLURM_JOB_NUM_NODES": "1", "SLURM_NTASKS": "2"}
    scripts = Path(__file__).resolve().parents[2] / "shell_scripts"
    run = subprocess.run(
        ["bash", str(scripts / "train_a100.sh"), project.workspace, project.name],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(tmp_path)
        | job
        | {"PATH": f"{programs}:/usr/bin:/bin", "SLURM_SUBMIT_DIR": str(scripts.parent), "SLURM_GPUS_ON_NODE": "2"},
        timeout=LIMIT,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert "600 jets for each process" in run.stdout
    assert len(re.findall(r"seed (\d+)", run.stdout)) == 1  # the one that the first process drew
    assert run.stdout.count("Best model: ") == 1
