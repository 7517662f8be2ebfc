"""Mode predict with --bundle: the answers of the project, without torch, and one line for what is wrong."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import uproot

import phaze_ee
from phaze_ee.cli import main
from phaze_ee.data.loaders import evaluation_loader
from phaze_ee.engine.engine import Engine
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.scores import Window
from phaze_ee.modes.session import Session
from phaze_ee.prediction.writers import read_manifest
from phaze_ee.workspace import Project
from tests.modes.exit_policies import write_policy
from tests.modes.predicting import columns_of, every_exit, notes, predict, rewrite
from tests.modes.two_class_project import make_project, request, save_best_model

TORCH_AND_MORE = ("torch", "lightning", "weaver", "pyarrow", "scipy", "numba", "h5py", "sklearn", "matplotlib")


@pytest.fixture
def bundle(project: Project, tmp_path: Path) -> Path:
    confidence_EN = every_exit(tmp_path / "val.root").softmax(dim=-1).amax(dim=-1)
    thresholds = [(0.5 * (row[19] + row[20])).item() for row in confidence_EN[:2].sort(dim=1).values]
    write_policy(project, ThresholdPolicy("confidence", thresholds, [1.0, 1.0, 2.0]))
    assert main(["-m", "export", "-p", "Tops", "small"]) == 0
    return project.export


def run(bundle: Path, *flags: str | Path) -> int:
    return main(["-m", "predict", "--bundle", str(bundle), *map(str, flags)])


def lists_of_jets(path: Path, jets: int = 60, most: int = 20) -> None:
    """Write jets with lists of particles: none, one, and more than the network takes."""
    random = np.random.default_rng(5)
    counts = [0, 1, 20, *random.integers(0, most + 1, size=jets - 3)]
    columns = {
        name: [random.normal(size=count).astype(np.float32) for count in counts] for name in ("p_eta", "p_phi", "p_pt")
    }
    import awkward as ak

    is_top_N = np.arange(jets) % 2 == 1
    with uproot.recreate(path) as file:
        kinds = dict.fromkeys(columns, "var * float32") | {"is_qcd": "bool", "is_top": "bool", "jet_id": "int64"}
        file.mktree("Events", kinds)
        labels = {"is_qcd": ~is_top_N, "is_top": is_top_N, "jet_id": np.arange(jets)}
        file["Events"].extend({name: ak.Array(own) for name, own in columns.items()} | labels)


def assert_same(found: Path, expected: Path) -> None:
    ours, theirs = columns_of(found), columns_of(expected)
    assert list(ours) == list(theirs)
    for name, column in theirs.items():
        assert ours[name].dtype == column.dtype, name
        if name == "exit_macs":  # an engine goes on with jets of a small network where dropping them takes longer
            assert (ours[name] <= column).all()
        elif name.startswith(("score_", "cascade_score_")):
            np.testing.assert_allclose(ours[name], column, atol=5e-6)
        else:
            np.testing.assert_array_equal(ours[name], column, err_msg=name)


def test_the_answers_are_those_of_the_project(
    project: Project, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lists_of_jets(tmp_path / "lists.root")
    rewrite(tmp_path / "val.root", tmp_path / "bare.root", is_top=None)
    files = ("--files", tmp_path / "val.root", tmp_path / "lists.root", tmp_path / "bare.root")
    with uproot.open(tmp_path / "lists.root") as file:
        empty = (0, sum(len(pt) == 0 for pt in file["Events"]["p_pt"].array()), 0)
    assert predict(*files) == 0
    capsys.readouterr()
    assert run(bundle, *files, "--output", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "without all label columns" in notes(printed)
    assert f"without particles: {sum(empty)} jets;" in notes(printed)
    assert max(len(line) for line in printed.splitlines() if str(tmp_path) not in line) <= 80
    for name, jets in zip(("val", "lists", "bare"), empty, strict=True):
        assert read_manifest(tmp_path / "out" / f"{name}.root").empty == jets
        assert_same(tmp_path / "out" / f"{name}.root", project.predictions / f"{name}.root")
        ours, theirs = (read_manifest(folder / f"{name}.root") for folder in (tmp_path / "out", project.predictions))
        same = ("rows", "labelled", "unclassified", "empty", "exits", "full_macs", "input")
        assert [getattr(ours, field) for field in same] == [getattr(theirs, field) for field in same]
    assert set(columns_of(tmp_path / "out" / "lists.root")["exit_index"]) == {0, 1, 2}
    trained = Session.open(request("predict")).model
    counts_N = next(iter(evaluation_loader(trained.schema, [tmp_path / "lists.root"], batch_size=60))).inputs.counts_NG
    costs_EN = Engine(trained.tagger).tagger.exit_macs(counts_N).numpy()
    columns = columns_of(tmp_path / "out" / "lists.root")
    np.testing.assert_array_equal(columns["exit_macs"], costs_EN[columns["exit_index"], np.arange(60)])


def test_rejected_jets_lie_below_all_others_in_both(project: Project, tmp_path: Path) -> None:
    logits_ENK = every_exit(tmp_path / "val.root")
    odds_EN = logits_ENK[..., 1] - logits_ENK[..., 0]
    cut = odds_EN[-1].median().item()
    farthest = [(cut - row.quantile(0.3)).clamp(min=0.0).item() for row in odds_EN[:2]]
    write_policy(project, ThresholdPolicy(Window(signal=1, background=0, cut=cut), farthest))
    assert main(["-m", "export", "-p", "Tops", "small"]) == 0
    lists_of_jets(tmp_path / "lists.root")
    files = ("--files", tmp_path / "val.root", tmp_path / "lists.root")
    assert predict(*files) == 0
    assert run(project.export, *files, "--output", tmp_path / "out") == 0
    for name in ("val", "lists"):
        assert_same(tmp_path / "out" / f"{name}.root", project.predictions / f"{name}.root")
    columns = columns_of(tmp_path / "out" / "val.root")
    score_N, stays_N = columns["cascade_score_is_top"], columns["exit_index"] == 2
    assert 0 < stays_N.sum() < len(stays_N)
    assert score_N[~stays_N].max() < 0 <= score_N[stays_N].min()
    np.testing.assert_allclose(score_N[stays_N], columns["score_is_top"][stays_N], atol=1e-6)
    budget = ("--event-budget", "1k", "--event-size", "4", "--output", tmp_path / "budget")
    assert predict("--files", tmp_path / "val.root", *budget) == 0
    stopped = columns_of(tmp_path / "budget" / "val.root")
    assert (stopped["exit_index"] == 0).all()  # the policy rejects some of them, the budget stops the others
    np.testing.assert_array_equal(stopped["cascade_score_is_top"] < 0, columns["exit_index"] == 0)
    assert "rejected jets have" in " ".join((project.export / "card.md").read_text().split())


def test_finished_files_are_skipped_and_others_are_not_replaced(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("--files", tmp_path / "val.root", "--output", tmp_path / "out")
    assert run(bundle, *command) == 0
    before = (tmp_path / "out" / "val.root").stat().st_mtime_ns
    assert run(bundle, *command) == 0
    assert "1 of 1 file" in notes(capsys.readouterr().out)
    assert (tmp_path / "out" / "val.root").stat().st_mtime_ns == before
    assert run(bundle, *command, "--observers") == 2
    assert "made with another data config or other observers" in capsys.readouterr().err
    assert run(bundle, *command, "--observers", "--overwrite") == 0
    assert "jet_id" not in columns_of(tmp_path / "out" / "val.root")


def test_it_runs_where_torch_and_weaver_are_not_installed(bundle: Path, tmp_path: Path) -> None:
    program = f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {TORCH_AND_MORE}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in {TORCH_AND_MORE} else found(name, package)
from phaze_ee.cli import main
sys.exit(main(sys.argv[1:]))
"""
    lists_of_jets(tmp_path / "lists.root")
    flags = ("-m", "predict", "--bundle", bundle, "--files", tmp_path / "lists.root", "--output", tmp_path / "bare")
    subprocess.run([sys.executable, "-c", program, *map(str, flags)], check=True)
    assert run(bundle, "--files", tmp_path / "lists.root", "--output", tmp_path / "full") == 0
    assert_same(tmp_path / "bare" / "lists.root", tmp_path / "full" / "lists.root")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "predict of a --bundle needs --files"),
        (("--files", "val.root", "-p", "Tops", "small"), "-p is for predict of a project"),
        (("--files", "val.root", "--max-exit", "1"), "--max-exit is for predict of a project"),
        (("--files", "val.root", "--observers", "score_is_top"), "observer score_is_top has the name of a column"),
        (("--files", "nowhere.root"), "no file matches 'nowhere.root'"),
        (("--files", "val.root", "--observers", "jet_xyz"), "has no branch jet_xyz"),
    ],
)
def test_what_is_wrong_is_one_line(
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(bundle, *flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_expressions_of_a_bundle_pass_the_gate(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnx

    from tests.export.test_runtime import seal

    model = onnx.load(str(bundle / "model.onnx"))
    texts = {entry.key: entry for entry in model.metadata_props}
    options = json.loads(texts["data_config"].value)
    options["new_variables"]["p_mask"] = "__import__('os').getpid() * ak.ones_like(p_pt)"
    texts["data_config"].value = json.dumps(options)
    onnx.save(model, str(bundle / "model.onnx"))
    seal(bundle)
    assert run(bundle, "--files", tmp_path / "val.root", "--output", tmp_path / "out") == 2
    assert "the expression of 'p_mask' uses" in notes(capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_a_chain_does_not_take_a_bundle(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["-m", "chain", "-p", "Tops", "small", "-o", "predict", "--bundle", "x"])
    assert "--bundle belongs to predict, not to chain" in capsys.readouterr().err


def test_flat_particles_are_padded_to_the_longest_jet(bundle: Path) -> None:
    from phaze_ee.runtime.bundle import Particles

    loaded = phaze_ee.load_bundle(bundle)
    jets = [np.array([0.5, 1.0, -2.0]), np.array([]), np.arange(5) / 4]
    names = ("p_eta", "p_phi", "p_pt")
    variables = dict.fromkeys(names, jets) | {"p_mask": [np.ones_like(jet) for jet in jets]}
    counts = np.array([3, 0, 5])
    packed = {name: Particles(np.concatenate(own), counts) for name, own in variables.items()}
    short, full = loaded.short_inputs(packed), loaded.inputs(variables)
    for name, value in full.items():
        np.testing.assert_array_equal(short[name], value[..., :5])
    np.testing.assert_allclose(loaded(short).scores_NK, loaded(full).scores_NK, atol=5e-6)
    np.testing.assert_array_equal(loaded(short).exit_index_N, loaded(full).exit_index_N)


def test_bad_values_that_may_pass_become_what_they_were_in_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    project = make_project(tmp_path, "c.bad_values = 'zero'")
    path = tmp_path / "two_classes.yaml"
    limited = "[p_pt, 0.4, 2.0, -1.5, 1.2]"  # p_eta and p_phi have no limits
    path.write_text(path.read_text().replace("p_phi, p_pt]", f"p_phi, {limited}]"))
    save_best_model(project)
    logits_ENK = every_exit(tmp_path / "val.root")
    medians = logits_ENK.softmax(dim=-1).amax(dim=-1)[:2].median(dim=1).values.tolist()
    write_policy(project, ThresholdPolicy("confidence", medians))
    with uproot.open(tmp_path / "val.root") as file:
        arrays = file["Events"].arrays(library="np")
    for jet, (name, value) in enumerate(
        (name, value) for name in ("p_eta", "p_phi", "p_pt") for value in (np.nan, np.inf, -np.inf)
    ):
        arrays[name][2 * jet, jet] = value
    rewrite(tmp_path / "val.root", tmp_path / "bad.root", **{name: arrays[name] for name in ("p_eta", "p_phi", "p_pt")})
    assert predict("--files", tmp_path / "bad.root") == 0
    assert main(["-m", "export", "-p", "Tops", "small"]) == 0
    assert run(project.export, "--files", tmp_path / "bad.root", "--output", tmp_path / "out") == 0
    assert_same(tmp_path / "out" / "bad.root", project.predictions / "bad.root")
    clean = columns_of(project.predictions / "bad.root")["score_is_top"]
    assert predict("--files", tmp_path / "val.root") == 0
    assert (clean != columns_of(project.predictions / "val.root")["score_is_top"]).sum() >= 8
    given = {name: list(arrays[name]) for name in ("p_eta", "p_phi", "p_pt")} | {"p_mask": list(np.ones((40, 12)))}
    result = phaze_ee.load_bundle(project.export).predict(given)
    np.testing.assert_allclose(result.scores_NK[:, 1], clean, atol=5e-6)


def test_a_tree_of_another_name(
    project: Project, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with uproot.open(tmp_path / "val.root") as file:
        jets = file["Events"].arrays(library="np")
    with uproot.recreate(tmp_path / "other.root") as file:
        file.mktree("deep/Jets", {name: (column.dtype, column.shape[1:]) for name, column in jets.items()})
        file["deep/Jets"].extend(jets)
    files = ("--files", tmp_path / "other.root")
    assert predict("--files", tmp_path / "val.root", "--output", tmp_path / "before") == 0
    capsys.readouterr()
    for run_it in (predict, lambda *flags: run(bundle, *flags)):
        assert run_it(*files, "--output", tmp_path / "none") == 2
        error = notes(capsys.readouterr().err)
        assert "has no tree 'Events'; it holds deep/Jets (TTree)" in error
        assert "or name the tree for predict by --tree" in error
        folder = tmp_path / f"out_{run_it is predict}"
        assert run_it(*files, "--tree", "deep/Jets", "--output", folder) == 0
        assert_same(folder / "other.root", tmp_path / "before" / "val.root")
    (tmp_path / "two_classes.yaml").write_text(
        (tmp_path / "two_classes.yaml").read_text().replace("treename: Events", "treename: deep/Jets")
    )
    assert predict(*files, "--output", tmp_path / "edited") == 0
    assert_same(tmp_path / "edited" / "other.root", tmp_path / "before" / "val.root")


def test_what_a_bundle_needs_of_a_file_is_said_for_its_user(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rewrite(tmp_path / "val.root", tmp_path / "short.root", p_phi=None)
    rewrite(tmp_path / "val.root", tmp_path / "plain.root", jet_id=None)
    assert run(bundle, "--files", tmp_path / "short.root") == 2
    error = notes(capsys.readouterr().err)
    assert f"which the inputs of the data config in {bundle / 'model.onnx'} need" in error
    assert error.endswith("correct the file list, or write the branches into the files")
    assert run(bundle, "--files", tmp_path / "plain.root") == 2
    assert "predict takes others by --observers NAME … (without names: none)" in notes(capsys.readouterr().err)
    assert run(bundle, "--files", tmp_path / "plain.root", "--observers") == 0


def test_a_bad_file_does_not_stop_the_others(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.root").write_text("no jets")
    files = ("--files", tmp_path / "a.root", tmp_path / "val.root", "--output", tmp_path / "out")
    assert run(bundle, *files) == 2
    printed = capsys.readouterr()
    assert "1 of 2 files cannot be used; the others are done" in notes(printed.out)
    assert f"cannot read {tmp_path / 'a.root'}" in printed.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["val.root"]
