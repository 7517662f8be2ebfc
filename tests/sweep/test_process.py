"""What a trial that is started again still has to do."""

from pathlib import Path

import pytest

from phaze_ee.config.options import Options
from phaze_ee.results.training import EpochRecord, TrainingHistory
from phaze_ee.sweep.process import ProjectProcess, last_line, trial_arguments
from phaze_ee.workspace import Project

PROGRAM = """#!/bin/sh
echo "$9"
"""


def record(epoch: int) -> EpochRecord:
    return EpochRecord(
        epoch=epoch,
        learning_rate=0.1,
        beta=[],
        train_total_loss=1.0,
        train_loss=[1.0],
        train_accuracy=[0.5],
        val_loss=None,
        val_accuracy=None,
        jets_per_second=1.0,
    )


@pytest.mark.parametrize(
    ("epochs", "patience", "state", "expected"),
    [
        (5, 0, False, "evaluate_benchmark"),
        (3, 0, True, "train_evaluate_benchmark"),
        (3, 0, False, "train_evaluate_benchmark"),  # its state was lost
        (3, 2, True, "train_evaluate_benchmark"),
        (3, 2, False, "evaluate_benchmark"),  # it stopped early
        (2, 2, False, "train_evaluate_benchmark"),  # too early to have stopped
    ],
)
def test_a_trained_trial_is_only_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int, patience: int, state: bool, expected: str
) -> None:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path))
    (tmp_path / "program").write_text(PROGRAM)
    (tmp_path / "program").chmod(0o755)
    monkeypatch.setattr("phaze_ee.sweep.process.sys.executable", str(tmp_path / "program"))
    project = Project("W", "trial_0")
    for path in (project.logs, project.models, project.training_history.parent):
        path.mkdir(parents=True, exist_ok=True)
    project.best_model.touch()
    if state:
        project.resume_point.touch()
    history = TrainingHistory(
        project="W/trial_0",
        exit_names=["full_model"],
        exit_loss_strategy="target_flow",
        epochs=[record(epoch) for epoch in range(epochs)],
    )
    history.write(project.training_history)
    options = Options(train_files=["*"], val_files=["*"], epochs=5, zero_epochs=0, early_stopping=patience)
    with (tmp_path / "lock").open("w") as lock:
        process = ProjectProcess(project, trial_arguments(project, options), {}, lock.fileno())
        process.stop()
    assert process.status == 0
    assert last_line(project) == expected
