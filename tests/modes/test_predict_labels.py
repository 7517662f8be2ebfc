"""Mode predict and the labels of the jets: missing, wrong, and named so that columns could collide."""

import math
from pathlib import Path

import numpy as np
import pytest

from phaze_ee.cli import main
from phaze_ee.workspace import Project
from tests.modes.predicting import change_yaml, columns_of, every_exit, notes, predict, rewrite
from tests.modes.two_class_project import JETS, save_best_model, write_jets


@pytest.mark.parametrize("lacking", [["is_qcd"], ["is_top"], ["is_qcd", "is_top"]])
def test_scores_need_no_labels(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str], lacking: list[str]
) -> None:
    rewrite(tmp_path / "val.root", tmp_path / "some.root", **dict.fromkeys(lacking))
    assert predict("--files", tmp_path / "val.root", tmp_path / "some.root") == 0
    assert "label columns, and so their predictions have none: 1 of 2 files" in notes(capsys.readouterr().out)
    full, some = (columns_of(project.predictions / f"{name}.root") for name in ("val", "some"))
    assert set(full) - set(some) == {"is_qcd", "is_top"}
    for name in some:
        np.testing.assert_array_equal(some[name], full[name])


def test_jets_of_no_class_get_scores(project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    is_top_N, zeros_N = (np.arange(JETS) % 2).astype(np.float32), np.zeros(JETS, dtype=np.float32)
    is_qcd_N = 1 - is_top_N
    is_qcd_N[4], is_qcd_N[5], is_top_N[7] = 0, 1, math.nan  # of no class, of both, unknown
    rewrite(tmp_path / "val.root", tmp_path / "one.root", is_top=is_top_N, is_qcd=is_qcd_N)
    rewrite(tmp_path / "val.root", tmp_path / "zeros.root", is_top=zeros_N, is_qcd=zeros_N)
    rewrite(tmp_path / "val.root", tmp_path / "lists.root", is_top=np.ones((JETS, 3), np.float32))
    files = [tmp_path / f"{name}.root" for name in ("val", "one", "zeros", "lists")]
    assert predict("--files", *files) == 0
    printed = notes(capsys.readouterr().out)
    assert f"of no class, or of several: {3 + 2 * JETS} jets; their labels are all false" in printed
    full, one, zeros, lists = (columns_of(project.predictions / path.name) for path in files)
    for columns in (one, zeros, lists):
        for name in set(full) - {"is_qcd", "is_top"}:
            np.testing.assert_array_equal(columns[name], full[name])
    known_N = ~np.isin(np.arange(JETS), [4, 5, 7])
    for name in ("is_qcd", "is_top"):
        np.testing.assert_array_equal(one[name], full[name] & known_N)
        assert not zeros[name].any()
        assert not lists[name].any()


@pytest.mark.parametrize("suffix", ["root", "parquet"])
def test_labels_that_differ_in_an_operator_have_columns_of_their_own(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    change_yaml(tmp_path, "[is_qcd, is_top]", "[is_top!=1, is_top==1]")
    save_best_model(project)
    assert predict("--format", suffix, "--exit-scores") == 0
    columns = columns_of(project.predictions / f"val.{suffix}")
    scores_NK = every_exit(tmp_path / "val.root")[-1].softmax(dim=-1).numpy()
    for index, stem in enumerate(["is_top_ne_1", "is_top_eq_1"]):
        assert columns[stem].tolist() == [jet % 2 == index for jet in range(JETS)]
        np.testing.assert_allclose(columns[f"score_{stem}"], scores_NK[:, index], atol=1e-6)
        np.testing.assert_array_equal(columns[f"full_model_score_{stem}"], columns[f"score_{stem}"])
    assert "the columns of class 'is_top!=1' end with is_top_ne_1" in notes(capsys.readouterr().out)


def test_an_observer_that_is_a_label_is_written_once(project: Project, tmp_path: Path) -> None:
    change_yaml(tmp_path, "observers: [jet_id]", "observers: [jet_id, is_top]")
    save_best_model(project)
    rewrite(tmp_path / "val.root", tmp_path / "data.root", is_top=None)
    assert predict("--files", tmp_path / "val.root", tmp_path / "data.root") == 0
    labelled, data = (columns_of(project.predictions / f"{name}.root") for name in ("val", "data"))
    assert labelled["is_top"].tolist() == [bool(jet % 2) for jet in range(JETS)]
    assert set(labelled) - set(data) == {"is_qcd", "is_top"}
    assert "jet_id" in data


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("[is_qcd, is_top]", "[is_top, entry]", "class entry and the row in the file would share the column entry"),
        ("observers: [jet_id]", "observers: [exit_macs]", "observer exit_macs has the name of a column"),
        ("observers: [jet_id]", "monitor_variables: [score_is_top]", "score_is_top has the name of a column"),
    ],
)
def test_names_that_would_collide_end_before_the_training(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str], before: str, after: str, message: str
) -> None:
    change_yaml(tmp_path, before, after)
    project.best_model.unlink()
    assert main(["-m", "train", "-p", "Tops", "small"]) == 2
    assert message in capsys.readouterr().err
    assert not project.best_model.exists()


@pytest.mark.parametrize("mode", ["evaluate", "calibrate"])
def test_numbers_about_classes_need_all_labels(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: str
) -> None:
    option = {"evaluate": "test_files", "calibrate": "calibration_files"}[mode]
    text = project.config.read_text(encoding="utf-8")
    write_jets(tmp_path / "train.root", np.arange(8) % 2)
    text = text.replace(
        "c.train_files = c.val", "c.train_files = [{!r}]\n    c.val".format(str(tmp_path / "train.root"))
    )
    project.config.write_text(f"{text}    c.{option} = [{str(tmp_path / 'test.root')!r}]\n", encoding="utf-8")
    is_qcd_N = np.arange(JETS) % 2 == 0
    is_qcd_N[6] = False
    rewrite(tmp_path / "val.root", tmp_path / "test.root", is_qcd=is_qcd_N)
    assert main(["-m", mode, "-p", "Tops", "small"]) == 2
    assert "test.root row 6: the labels is_qcd, is_top sum to 0" in capsys.readouterr().err
    rewrite(tmp_path / "val.root", tmp_path / "test.root", is_qcd=None)
    assert main(["-m", mode, "-p", "Tops", "small"]) == 2
    assert "test.root has no branch is_qcd" in capsys.readouterr().err
