"""Where the curves of a training go: every logger that needs no server, and what is said if one fails."""

import csv
import sys
from pathlib import Path
from typing import Any

import pytest

from phaze_ee.config.options import LoggingOptions
from phaze_ee.errors import RunError, UsageError
from phaze_ee.training.curves import logger_name, open_logger
from tests.training.test_run import run

NAMES = {"train/loss/full_model", "val/loss/exit_0", "val/accuracy/full_model", "beta/exit_2"}


def test_csv_has_every_loss_accuracy_and_beta(tmp_path: Path) -> None:
    run(tmp_path, logger="csv", log_interval=1, epochs=2)
    (path,) = (tmp_path / "logs" / "csv").glob("*/metrics.csv")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {*NAMES, "train/loss/exit_1_step"} <= set(rows[0])
    assert len([row for row in rows if row["val/loss/exit_0"]]) == 2
    assert not (tmp_path / "logs" / "train").exists()


def test_mlflow_writes_to_files_without_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    run(tmp_path, logger="mlflow", log_interval=1, epochs=2)
    client = tracking.MlflowClient(f"file:{tmp_path / 'logs' / 'mlruns'}")
    (experiment,) = client.search_experiments(filter_string="name = 'test'")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.run_name == "quick"
    assert found.info.status == "FINISHED"
    assert set(found.data.metrics) >= NAMES
    assert len(client.get_metric_history(found.info.run_id, "val/loss/exit_0")) == 2


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({}, "tensorboard"),
        ({"tensorboard": False}, None),
        ({"tensorboard": False, "logger": "csv"}, "csv"),
        ({"logger": None}, None),
    ],
)
def test_the_earlier_switch_is_for_tensorboard_alone(values: dict[str, Any], name: str | None) -> None:
    assert logger_name(LoggingOptions(**values)) == name


@pytest.mark.parametrize(("logger", "module"), [("wandb", "wandb"), ("comet", "comet_ml"), ("mlflow", "mlflow")])
def test_a_missing_package_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logger: Any, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr("phaze_ee.training.curves.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=rf"needs the package {module}.*pip install \"\.\[{logger}\]\""):
        open_logger(LoggingOptions(logger=logger), tmp_path, "W/p", None)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file in the place of a folder")
    with pytest.raises(RunError, match=r"cannot write curves for c\.logger = 'csv' to .*logs: .*set c\.logger = None"):
        run(tmp_path, logger="csv", log_interval=1)


def test_a_server_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RunError, match=r"c\.logger = 'mlflow' cannot write the curves"):
        run(tmp_path, logger="mlflow")
