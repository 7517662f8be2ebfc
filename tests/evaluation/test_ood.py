import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score

from phaze_ee.errors import DataError, RunError
from phaze_ee.evaluation.ood import auroc, detection, evaluate_ood
from phaze_ee.exits.answers import Answers
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.policy_file import ExitPolicyFile, KeptPolicy
from phaze_ee.results.ood import OODResults
from phaze_ee.workspace import Project
from tests.evaluation.answers import CLASSES, random_answers
from tests.modes.exit_policies import write_policy
from tests.plots.examples import evaluation_results

SCORES = arrays(np.float64, st.integers(2, 30), elements=st.integers(-3, 3).map(float))


@given(SCORES, SCORES)
def test_area_is_that_of_scikit_learn_and_ties_count_half(own_N: np.ndarray, ood_M: np.ndarray) -> None:
    is_ood = np.repeat([0, 1], [len(own_N), len(ood_M)])
    area, error = auroc(own_N, ood_M)
    assert area == pytest.approx(roc_auc_score(is_ood, np.concatenate([own_N, ood_M])))
    assert 0 <= error <= 0.75
    assert auroc(ood_M, own_N) == pytest.approx((1 - area, error))


def test_error_is_the_spread_over_repetitions() -> None:
    random = np.random.default_rng(0)
    found = np.array([auroc(random.normal(size=150), random.normal(0.7, 1.5, size=80)) for _ in range(800)])
    assert found[:, 1].mean() == pytest.approx(found[:, 0].std(), rel=0.08)


def test_histograms_are_centred_on_the_own_jets_and_hold_all() -> None:
    found = detection(np.linspace(4, 6, 201), np.linspace(6, 9, 50))
    assert found.mean == pytest.approx(5)
    assert (sum(found.counts), sum(found.ood_counts)) == (201, 50)
    centres = np.array(found.edges[:-1]) + np.diff(found.edges) / 2
    assert np.average(centres, weights=found.counts) == pytest.approx(0, abs=0.05)


def test_equal_scores_are_blind() -> None:
    found = detection(np.ones(20), np.ones(30))
    assert (found.auroc, found.auroc_error) == (0.5, 0.0)
    assert (max(found.counts), max(found.ood_counts)) == (20, 30)


def judged(own: Answers, ood: Answers, policy: ExitPolicyFile | None = None, file: str = "o.root") -> OODResults:
    kept = None if policy is None else KeptPolicy("default", Path("default.json"), policy, "of the policy")
    return evaluate_ood(own, ood, [Path(file)], kept, evaluation_results())


def weakened(answers: Answers, factor: float) -> Answers:
    return dataclasses.replace(
        answers, logits_ENK=answers.logits_ENK * np.float32(factor), label_N=np.full(len(answers), -1)
    )


def policy_file(monkeypatch: pytest.MonkeyPatch, folder: Path, thresholds: list[float]) -> ExitPolicyFile:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(folder))
    project = Project("W", "p")
    project.models.mkdir(parents=True)
    project.best_model.write_bytes(b"")
    write_policy(project, ThresholdPolicy("confidence", thresholds), classes=CLASSES)
    return ExitPolicyFile.read(project.exit_policy, made_by="calibrate")


def test_jets_without_labels_whose_answers_are_weak_are_noticed_at_every_exit() -> None:
    results = judged(random_answers(400), weakened(random_answers(300, seed=1), 0.3))
    assert (results.jets, results.ood_jets, results.ood_files) == (400, 300, ["o.root"])
    assert {name: list(scores) for name, scores in results.exits.items()} == {
        "exit_0": ["energy", "max_probability", "disagreement"],
        "exit_1": ["energy", "max_probability", "disagreement", "disagreement_so_far"],
        "full_model": ["energy", "max_probability", "disagreement", "disagreement_so_far"],
    }
    assert all(scores["energy"].auroc > 0.7 for scores in results.exits.values())
    assert all(scores["max_probability"].auroc > 0.7 for scores in results.exits.values())


def test_jets_of_the_same_kind_are_not_told_apart() -> None:
    results = judged(random_answers(2000), random_answers(2000, seed=1))
    for scores in results.exits.values():
        for found in scores.values():
            assert abs(found.auroc - 0.5) < 4 * found.auroc_error


def test_policy_mixes_exits_after_each_is_centred(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own, ood = random_answers(500), weakened(random_answers(400, seed=1), 0.3)
    shift_ENK = np.array([0, 50, -50], dtype=np.float32)[:, None, None]  # changes no probability, and every energy
    shifted = [dataclasses.replace(sample, logits_ENK=sample.logits_ENK + shift_ENK) for sample in (own, ood)]
    policy = policy_file(monkeypatch, tmp_path, [0.8, 0.8])
    plain, moved = judged(own, ood, policy).policy, judged(shifted[0], shifted[1], policy).policy
    assert plain is not None
    assert moved is not None
    assert list(plain.scores) == ["energy", "max_probability"]  # the first exit has no earlier one to differ from
    assert moved.scores["energy"].auroc == pytest.approx(plain.scores["energy"].auroc, abs=1e-3)
    confident = own.logits_ENK[0].astype(float)
    leaves_N = np.exp(confident.max(1)) / np.exp(confident).sum(1) >= 0.8
    assert plain.exits["exit_0"].value == pytest.approx(leaves_N.mean())
    assert sum(share.value for share in plain.ood_exits.values()) == pytest.approx(1)


def test_a_policy_by_which_all_leave_at_one_exit_gives_the_areas_of_that_exit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    policy = policy_file(monkeypatch, tmp_path, [np.inf, -np.inf])
    results = judged(random_answers(100), random_answers(100, seed=1), policy)
    assert results.policy is not None
    for name, found in results.policy.scores.items():
        assert found.auroc == pytest.approx(results.exits["exit_1"][name].auroc)
    assert "disagreement_so_far" in results.policy.scores
    assert "disagreement" not in results.policy.scores


def test_few_jets_are_said_and_too_few_refused() -> None:
    own = random_answers(200)
    notes = judged(own, random_answers(99, seed=1)).notes
    assert any(note.startswith("only 99 OOD jets") for note in notes)
    with pytest.raises(DataError, match="there are 9 OOD jets, too few"):
        judged(own, random_answers(9))
    with pytest.raises(DataError, match="there are 9 jets of the project, too few"):
        judged(random_answers(9), own)


def test_a_network_without_exits_has_its_energy() -> None:
    results = judged(random_answers(200, quality=[2]), random_answers(200, seed=1, quality=[1]))
    assert {name: list(scores) for name, scores in results.exits.items()} == {
        "full_model": ["energy", "max_probability"]
    }
    assert any("no exits" in note for note in results.notes)


def test_files_of_the_project_itself_are_noticed() -> None:
    own = random_answers(200)
    assert any(
        "test.root is a file of the project's own jets" in note for note in judged(own, own, file="test.root").notes
    )


def test_answers_that_are_no_numbers_are_refused() -> None:
    own, ood = random_answers(50), random_answers(50, seed=1)
    ood.logits_ENK[1, 3, 0] = np.nan
    with pytest.raises(RunError, match="not finite for 1 of 50 jets"):
        judged(own, ood)
