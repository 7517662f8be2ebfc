"""Mode predict: what it writes, what it skips, and what it refuses."""

import json
import logging
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import uproot
from distributed import Client, LocalCluster

from phaze_ee.exits.policies import ThresholdPolicy, exit_index
from phaze_ee.prediction.parallel import _local_cluster
from phaze_ee.prediction.writers import read_manifest
from phaze_ee.workspace import Project
from tests.modes.exit_policies import write_policy
from tests.modes.predicting import columns_of, every_exit, notes, predict
from tests.modes.two_class_project import JETS, save_best_model, write_jets

SCORES = ["score_is_qcd", "score_is_top"]


def halves(path: Path) -> ThresholdPolicy:
    """A policy by which about half of the jets leave at each exit, with temperatures."""
    confidence_EN = every_exit(path).softmax(dim=-1).amax(dim=-1)
    return ThresholdPolicy("confidence", confidence_EN[:2].median(dim=1).values.tolist(), [1.0, 1.0, 2.0])


@pytest.mark.parametrize("suffix", ["root", "parquet"])
def test_the_answers_are_those_of_the_policy(project: Project, tmp_path: Path, suffix: str) -> None:
    policy = halves(tmp_path / "val.root")
    write_policy(project, policy)
    assert predict("--format", suffix, "--exit-scores") == 0
    columns = columns_of(project.predictions / f"val.{suffix}")
    logits_ENK = every_exit(tmp_path / "val.root") / torch.tensor([1.0, 1.0, 2.0]).view(-1, 1, 1)
    index_N = exit_index(policy, logits_ENK)
    assert set(index_N.tolist()) == {0, 1, 2}
    score_ENK = logits_ENK.softmax(dim=-1).numpy()
    for number, name in enumerate(SCORES):
        np.testing.assert_allclose(columns[name], score_ENK[index_N, range(JETS), number], atol=1e-6)
        for index, exit_ in enumerate(("exit_0", "exit_1", "full_model")):
            expected = np.where(index <= index_N.numpy(), score_ENK[index, :, number], math.nan)
            np.testing.assert_allclose(columns[f"{exit_}_{name}"], expected, atol=1e-6)
    assert columns["exit_index"].tolist() == index_N.tolist()
    assert columns["entry"].tolist() == columns["jet_id"].tolist() == list(range(JETS))
    assert columns["is_top"].tolist() == [bool(jet % 2) for jet in range(JETS)]
    assert (np.diff(np.unique(columns["exit_macs"])) > 0).all()
    assert len(columns) == 1 + 2 + 2 + 1 + 2 + 6


def test_without_a_policy_every_jet_gets_the_full_model(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict() == 0
    columns = columns_of(project.predictions / "val.root")
    assert set(columns["exit_index"].tolist()) == {2}
    score_NK = every_exit(tmp_path / "val.root")[-1].softmax(dim=-1).numpy()
    np.testing.assert_allclose(np.stack([columns[name] for name in SCORES], axis=1), score_NK, atol=1e-6)
    assert not any("exit_0" in name for name in columns)
    printed = capsys.readouterr().out
    assert "no exit policy yet" in printed
    assert "c.test_files is empty" in printed
    assert "jets/s: all the time that the files took" in printed
    assert max(len(line) for line in printed.splitlines() if str(tmp_path) not in line) <= 80


def test_a_policy_that_lets_no_jet_leave_still_has_a_temperature(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_policy(project, ThresholdPolicy("confidence", [math.inf, math.inf], [1.0, 1.0, 2.0]))
    scores = {}
    for flags, temperature in (([], 2.0), (["--no-policy", "--overwrite"], 1.0)):
        assert predict(*flags) == 0
        columns = columns_of(project.predictions / "val.root")
        expected_NK = (every_exit(tmp_path / "val.root")[-1] / temperature).softmax(dim=-1).numpy()
        np.testing.assert_allclose(np.stack([columns[name] for name in SCORES], axis=1), expected_NK, atol=1e-6)
        scores[temperature] = notes(capsys.readouterr().out)
    said = "its logits divided by a temperature of 2; --no-policy gives them as they are"
    assert said in scores[2.0]
    assert said not in scores[1.0]
    assert predict("--no-policy", "--policy", "default") == 2


def test_other_files_without_labels_and_with_other_observers(project: Project, tmp_path: Path) -> None:
    with uproot.open(tmp_path / "val.root") as file:
        jets = file["Events"].arrays(["p_eta", "p_phi", "p_pt"], library="np")
    folder = tmp_path / "other"
    folder.mkdir()
    with uproot.recreate(folder / "data.root") as file:
        file.mktree("Events", {**dict.fromkeys(jets, ("f4", (12,))), "run": "i8"})
        file["Events"].extend({**jets, "run": np.full(JETS, 7)})
    assert predict("--files", folder / "*.root", "--output", tmp_path / "out", "--observers", "run") == 0
    columns = columns_of(tmp_path / "out" / "data.root")
    assert set(columns) == {"entry", *SCORES, "run", "exit_index", "exit_macs"}
    assert set(columns["run"].tolist()) == {7}
    assert predict("--files", folder / "*.root", "--output", tmp_path / "bare", "--observers") == 0
    assert "run" not in columns_of(tmp_path / "bare" / "data.root")


def test_finished_files_are_skipped(project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict() == 0
    before = (project.predictions / "val.root").stat().st_mtime_ns
    write_jets(tmp_path / "more.root", np.arange(20) % 2)
    capsys.readouterr()
    assert predict("--files", tmp_path / "val.root", tmp_path / "more.root") == 0
    assert "predicted already, by the same model and policy: 1 of 2 files" in " ".join(capsys.readouterr().out.split())
    assert (project.predictions / "val.root").stat().st_mtime_ns == before
    assert len(columns_of(project.predictions / "more.root")["entry"]) == 20


def test_a_list_of_files_that_grows(project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, folder in enumerate(("a", "b")):
        (tmp_path / folder).mkdir()
        write_jets(tmp_path / folder / "x.root", np.arange(20 + number) % 2)
    assert predict("--files", tmp_path / "a" / "x.root") == 0
    before = (project.predictions / "x.root").read_bytes()
    assert predict("--files", tmp_path / "b" / "x.root", "--overwrite") == 0  # it replaces its own alone
    capsys.readouterr()
    assert predict("--files", tmp_path / "?" / "x.root") == 0
    printed = notes(capsys.readouterr().out)
    assert "predicted already, by the same model and policy: 2 of 2 files" in printed
    assert "as others have the same name, outputs of 1 file carry more of the path: b/x.root → b_x.root" in printed
    assert (project.predictions / "x.root").read_bytes() == before
    sizes = {path.name: len(columns_of(path)["entry"]) for path in project.predictions.iterdir()}
    assert sizes == {"x.root": 20, "b_x.root": 21}


def test_what_was_made_otherwise_is_not_replaced_unasked(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*flags: str) -> str:
        assert predict(*flags) == 2
        return capsys.readouterr().err

    assert predict() == 0
    assert "made with another choice of --exit-scores" in refused("--exit-scores")
    assert "made with another data config or other observers" in refused("--observers")
    write_policy(project, halves(tmp_path / "val.root"))
    assert "made with another exit policy" in refused()
    write_jets(tmp_path / "val.root", np.zeros(12))
    assert "another exit policy, another input file" in refused()
    project.exit_policy.unlink()
    save_best_model(project, seed=2)
    assert "another model, another input file" in refused()
    assert predict("--overwrite") == 0
    assert len(columns_of(project.predictions / "val.root")["entry"]) == 12
    shutil.copy(tmp_path / "val.root", project.predictions / "val.root")
    assert "was not written by mode predict" in refused()


def test_a_policy_of_another_model_is_refused(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    write_policy(project, ThresholdPolicy("confidence", [0.7, 0.7]))
    save_best_model(project, seed=2)
    assert predict() == 2
    assert "calibrated for another model" in capsys.readouterr().err


def test_jets_are_never_replaced(project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (tmp_path / "val.root").read_bytes()
    assert predict("--output", tmp_path, "--overwrite") == 2
    assert "would replace the jets" in capsys.readouterr().err
    assert (tmp_path / "val.root").read_bytes() == before


@pytest.mark.parametrize("suffix", ["root", "parquet"])
def test_an_empty_file_gives_an_empty_file(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    write_jets(tmp_path / "empty.root", np.zeros(0))
    assert predict("--files", tmp_path / "empty.root", "--format", suffix) == 0
    printed = capsys.readouterr().out
    assert "0 jets in 1 file," in printed
    assert "without any jets, and so their predictions: 1 of 1 file" in printed
    columns = columns_of(project.predictions / f"empty.{suffix}")
    assert set(SCORES) <= set(columns)
    assert all(len(column) == 0 for column in columns.values())


def test_a_bad_jet_leaves_no_output(project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with uproot.open(tmp_path / "val.root") as file:
        jets = file["Events"].arrays(library="np")
    jets["p_pt"][33, 2] = math.nan
    with uproot.recreate(tmp_path / "bad.root") as file:
        file.mktree("Events", {n: ("f4", (12,)) if v.ndim > 1 else v.dtype for n, v in jets.items()})
        file["Events"].extend(jets)
    assert predict("--files", tmp_path / "val.root") == 0
    assert predict("--files", tmp_path / "val.root", tmp_path / "bad.root") == 2
    assert "bad.root row 33: p_pt is NaN" in capsys.readouterr().err
    assert [path.name for path in project.predictions.iterdir()] == ["val.root"]


def test_monitoring_adds_up_over_files_and_runs(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_best_model(project, seed=7)  # random weights whose answers depend on p_pt; not all do
    write_policy(project, halves(tmp_path / "val.root"), every_exit(tmp_path / "val.root"))
    assert predict("--monitor") == 0
    assert "no alarm: 40 jets against 40 of the calibration" in capsys.readouterr().out
    write_shifted(tmp_path / "shifted.root", 400)
    assert predict("--monitor", "0.01", "--files", tmp_path / "val.root", tmp_path / "shifted.root") == 0
    printed = capsys.readouterr().out
    assert "WARNING: these jets differ from the calibration jets" in printed
    assert "440 jets against 40 of the calibration" in printed
    assert "2 files, 1 new" in notes(printed)
    report = json.loads((project.predictions / "drift.json").read_text(encoding="utf-8"))
    assert report["jets"] == 440
    assert any(test["alarm"] for test in report["tests"])
    assert predict("--monitor", "0.01", "--files", tmp_path / "val.root", "--overwrite") == 0
    assert "2 files, 0 new" in notes(capsys.readouterr().out)
    again = json.loads((project.predictions / "drift.json").read_text(encoding="utf-8"))
    assert again == report, "a file that comes twice counts once, and an alarm stays"


def test_reports_that_monitoring_cannot_add_to(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = project.predictions / "drift.json"
    write_policy(project, halves(tmp_path / "val.root"))
    assert predict("--monitor") == 0
    printed = notes(capsys.readouterr().out)
    assert "Not tested: the inputs; the policy is of an earlier version, and calibrate adds them" in printed
    whole = state.read_text(encoding="utf-8")
    state.write_text(whole[:-50], encoding="utf-8")
    assert predict("--monitor") == 2
    assert "drift.json is damaged, and was kept; move it away" in capsys.readouterr().err
    assert state.read_text(encoding="utf-8") == whole[:-50]
    report = json.loads(whole)
    for name, counts in (("exit", [2**63, 1]), ("exit", [1]), ("no such", [1, 2])):
        damaged = json.loads(whole)
        damaged["state"]["now"]["tallies"].setdefault(name, {"sums": [0.0]})["counts"] = counts
        state.write_text(json.dumps(damaged), encoding="utf-8")
        assert predict("--monitor") == 2
        assert "drift.json is damaged, and was kept; move it away" in capsys.readouterr().err
    other = report | {"reference": "of another policy"}
    state.write_text(json.dumps(other), encoding="utf-8")
    assert predict("--monitor") == 2
    assert "drift.json compares with the calibration jets of another policy" in capsys.readouterr().err
    older = {name: value for name, value in report.items() if name not in ("reference", "files", "state")}
    for content, flags in ((older, []), (other, ["--overwrite"])):
        state.write_text(json.dumps(content), encoding="utf-8")
        assert predict("--monitor", *flags) == 0
        assert "of an earlier run was replaced" in notes(capsys.readouterr().out)
        assert json.loads(state.read_text(encoding="utf-8")) == report


def write_shifted(path: Path, count: int) -> None:
    write_jets(path, np.arange(count) % 2)
    with uproot.open(path) as file:
        jets = file["Events"].arrays(library="np")
    jets["p_pt"] = 3 * jets["p_pt"] + 2
    with uproot.recreate(path) as file:
        file.mktree("Events", {n: ("f4", (12,)) if v.ndim > 1 else v.dtype for n, v in jets.items()})
        file["Events"].extend(jets)


@pytest.mark.parametrize(("value", "message"), [("0.001", "run mode 'calibrate'"), ("2", "not a significance")])
def test_monitoring_needs_a_policy_and_a_significance(
    project: Project, value: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict("--monitor", value) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("where", ["processes of this machine", "a cluster"])
def test_dask_gives_the_same_values(project: Project, tmp_path: Path, where: str) -> None:
    policy = halves(tmp_path / "val.root")
    write_policy(project, policy, every_exit(tmp_path / "val.root"))
    for number in range(3):
        write_jets(tmp_path / f"jets_{number}.root", np.arange(20 + number) % 2)
    common = ("--files", tmp_path / "jets_*.root", "--exit-scores", "--monitor", "--audit", "0.5")
    assert predict(*common, "--output", tmp_path / "serial") == 0
    parallel = (*common, "--output", tmp_path / "parallel")
    if where == "a cluster":
        with LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=":0"
        ) as cluster:
            assert predict(*parallel, "--scheduler", cluster.scheduler_address) == 0
    else:
        assert predict(*parallel, "--workers", "2") == 0
    for number in range(3):
        one, two = (tmp_path / name / f"jets_{number}.root" for name in ("serial", "parallel"))
        assert read_manifest(one) == read_manifest(two)
        first, second = columns_of(one), columns_of(two)
        assert first.keys() == second.keys()
        for name in first:
            np.testing.assert_array_equal(first[name], second[name])
    assert (tmp_path / "serial" / "drift.json").read_text() == (tmp_path / "parallel" / "drift.json").read_text()


def test_workers_that_are_stopped_print_no_warnings() -> None:
    with _local_cluster(1) as cluster, Client(cluster) as client:
        (levels,) = client.run(lambda: [own.level for own in logging.getLogger("distributed").handlers]).values()
    assert min(levels) >= logging.ERROR


def test_a_scheduler_that_does_not_answer(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("phaze_ee.prediction.parallel._CONNECT_SECONDS", 0.3)
    assert predict("--scheduler", "tcp://127.0.0.1:9") == 2
    error = capsys.readouterr().err
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in error
    assert error.count("\n") == 1


def test_without_dask_the_error_says_how_to_get_it(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("phaze_ee.prediction.parallel.find_spec", lambda name: None)
    assert predict("--workers", "2") == 2
    assert 'pip install ".[dask]"' in capsys.readouterr().err


def test_jets_of_an_event_share_a_budget(project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_policy(project, ThresholdPolicy("confidence", [2.0, 2.0]))  # nobody leaves of his own
    assert predict("--event-budget", "40k", "--event-size", "4", "--output", tmp_path / "few") == 0
    few = columns_of(tmp_path / "few" / "val.root")
    assert set(few["exit_index"].tolist()) > {2}
    per_event = few["exit_macs"].reshape(-1, 4).sum(axis=1)
    manifest = read_manifest(tmp_path / "few" / "val.root")
    assert manifest is not None
    assert manifest.budget is not None
    assert manifest.budget.events == JETS // 4
    assert manifest.budget.exceeded == int((per_event > 40_000).sum())
    assert manifest.budget.cut > 0
    assert "cut short" in capsys.readouterr().out
    assert predict("--event-budget", "1G", "--event-column", "jet_id", "--output", tmp_path / "all") == 0
    assert set(columns_of(tmp_path / "all" / "val.root")["exit_index"].tolist()) == {2}
    assert predict("--event-budget", "60000ms", "--event-size", "4", "--output", tmp_path / "slow") == 0
    assert "M MACs per ms" in capsys.readouterr().out


def test_a_cap_on_the_depth_works_without_a_policy_too(project: Project, tmp_path: Path) -> None:
    assert predict("--max-exit", "1", "--output", tmp_path / "capped") == 0
    assert set(columns_of(tmp_path / "capped" / "val.root")["exit_index"].tolist()) == {1}
    assert predict("--output", tmp_path / "capped") == 2  # made otherwise, and not to be overwritten unasked


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--event-size", "3"], "need an --event-budget"),
        (["--event-budget", "3M"], "needs either --event-size N or --event-column NAME"),
        (["--event-budget", "3M", "--event-size", "0"], "--event-size 0 is not a number of jets"),
        (["--event-budget", "3 jets", "--event-size", "2"], "is neither MACs"),
        (["--event-budget", "0M", "--event-size", "2"], "an event budget of 0 MACs"),
        (["--event-budget", "3M", "--event-column", "evt"], "no branch evt"),
        (["--max-exit", "7"], "no exit 7 to stop at"),
        (["--event-budget", "200", "--event-size", "2"], "is neither MACs"),
        (["--max-exit", "0", "--monitor"], "--monitor compares the exits that the policy alone chooses"),
    ],
)
def test_budgets_that_make_no_sense_are_refused(
    project: Project, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(*flags) == 2
    assert message in capsys.readouterr().err
    assert not any(project.predictions.glob("*"))
