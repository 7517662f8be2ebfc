from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from phaze_ee.errors import DataError, RunError
from phaze_ee.evaluation.metrics import evaluate_exit, evaluate_exits, one_vs_one_auc
from phaze_ee.evaluation.rejection import JETCLASS_EFFICIENCIES
from phaze_ee.results.base import Provenance
from phaze_ee.results.evaluation import ExitEvaluation
from tests.evaluation.answers import random_answers

JETCLASS = ("label_QCD", *JETCLASS_EFFICIENCIES)


def names(count: int) -> tuple[str, ...]:
    return tuple(f"class_{index}" for index in range(count))


def sample(classes: int, jets: int, seed: int = 0) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return logits that know something about the labels."""
    random = np.random.default_rng(seed)
    label_N = random.integers(classes, size=jets)
    logits_NK = random.normal(size=(jets, classes)) + 2 * np.eye(classes)[label_N]
    return logits_NK.astype(np.float32), label_N


def probabilities(logits_NK: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    exponential_NK = np.exp(logits_NK.astype(np.float64))
    return np.asarray(exponential_NK / exponential_NK.sum(axis=1, keepdims=True))


def test_hand_made_logits() -> None:
    # Probabilities (0.8, 0.2), (0.8, 0.2), (0.5, 0.5), (0.2, 0.8) with labels 0, 1, 1, 1; the tie goes to class 0.
    logits_NK = np.log(np.array([[0.8, 0.2], [0.8, 0.2], [0.5, 0.5], [0.2, 0.8]]))
    result = evaluate_exit(logits_NK, np.array([0, 1, 1, 1]), names(2), None)
    assert result.accuracy == 0.5
    assert result.accuracy_error == pytest.approx(0.25)  # √(0.5·0.5/4)
    assert result.loss == pytest.approx(-(2 * np.log(0.8) + np.log(0.2) + np.log(0.5)) / 4)
    assert result.confusion_matrix == [[1, 0], [2, 1]]
    assert result.roc_auc == pytest.approx(2.5 / 3)  # of three pairs two are in order, one is tied
    assert result.expected_calibration_error == pytest.approx((abs(2 - 2.4) + 0.5) / 4)
    assert (result.rejections, result.roc_curves) == ([], [])


@pytest.mark.parametrize("classes", [3, 10, 20])
def test_many_classes_agree_with_scikit_learn(classes: int) -> None:
    logits_NK, label_N = sample(classes, 600)
    result = evaluate_exit(logits_NK, label_N, names(classes), "class_1")
    expected = probabilities(logits_NK)
    assert result.roc_auc == pytest.approx(roc_auc_score(label_N, expected, multi_class="ovo", average="macro"))
    assert result.loss == pytest.approx(log_loss(label_N, expected))
    assert np.sum(result.confusion_matrix) == 600
    assert np.trace(result.confusion_matrix) == pytest.approx(600 * result.accuracy)
    assert [rejection.signal for rejection in result.rejections] == [n for n in names(classes) if n != "class_1"]
    assert {rejection.signal_efficiency for rejection in result.rejections} == {0.5}


def test_two_classes_have_the_ordinary_area() -> None:
    logits_NK, label_N = sample(2, 200)
    probability_NK = probabilities(logits_NK)
    assert one_vs_one_auc(probability_NK, label_N) == pytest.approx(roc_auc_score(label_N, probability_NK[:, 1]))


def test_jetclass_labels_get_nine_rejections() -> None:
    logits_NK, label_N = sample(10, 3_000)
    result = evaluate_exit(logits_NK, label_N, JETCLASS, None)
    efficiencies = {rejection.signal: rejection.signal_efficiency for rejection in result.rejections}
    assert efficiencies == JETCLASS_EFFICIENCIES
    assert [curve.signal for curve in result.roc_curves] == list(efficiencies)
    assert all(curve.background == "label_QCD" for curve in result.roc_curves)


def test_an_absent_class_is_left_out() -> None:
    logits_NK, label_N = sample(4, 400)
    present_N = label_N != 2
    logits_NK, label_N = logits_NK[present_N], label_N[present_N]
    result = evaluate_exit(logits_NK, label_N, ("label_QCD", "label_a", "label_b", "label_c"), None)
    # The areas of the pairs (0, 1), (0, 3) and (1, 3), each the mean of its two directions.
    areas = []
    for first, second in ((0, 1), (0, 3), (1, 3)):
        pair_N = np.isin(label_N, (first, second))
        scores_NK = probabilities(logits_NK)[pair_N]
        is_first_N = label_N[pair_N] == first
        areas += [roc_auc_score(is_first_N, scores_NK[:, first]), roc_auc_score(~is_first_N, scores_NK[:, second])]
    assert result.roc_auc == pytest.approx(np.mean(areas))
    figures = [rejection.value or rejection.lower_limit for rejection in result.rejections]
    assert [figure is None for figure in figures] == [False, True, False]
    assert [curve.signal for curve in result.roc_curves] == ["label_a", "label_c"]
    assert result.confusion_matrix[2] == [0, 0, 0, 0]


@pytest.mark.parametrize("classes", [2, 10])
def test_a_single_jet(classes: int) -> None:
    result = evaluate_exit(np.zeros((1, classes), np.float32), np.array([0]), names(classes), "class_0")
    assert (result.accuracy, result.accuracy_error, result.roc_auc) == (1, 0, None)
    assert result.loss == pytest.approx(np.log(classes))
    assert all(rejection.value is None and rejection.lower_limit is None for rejection in result.rejections)


def test_large_logits_stay_finite() -> None:
    # As probabilities in single precision both would be 0 or 1, and the loss infinite.
    result = evaluate_exit(np.array([[1e4, 0], [0, 1e4]], np.float32), np.array([1, 1]), names(2), None)
    assert result.loss == pytest.approx(5_000)


def test_logits_are_the_same_up_to_a_constant_per_jet() -> None:
    logits_NK, label_N = sample(3, 100)
    shifted = logits_NK.astype(np.float64) + 100 * np.arange(100)[:, None]
    wanted = evaluate_exit(logits_NK, label_N, names(3), "class_0").model_dump()
    shifted_result = evaluate_exit(shifted, label_N, names(3), "class_0")
    assert shifted_result.loss == pytest.approx(wanted["loss"])
    assert shifted_result.roc_auc == pytest.approx(wanted["roc_auc"])
    assert shifted_result.confusion_matrix == wanted["confusion_matrix"]


def test_each_exit_has_its_cost_and_is_compared_with_the_full_model() -> None:
    jets = random_answers(400)
    jets = replace(jets, label_N=np.where(jets.label_N == 2, 1, jets.label_N))
    found = evaluate_exits(jets, None, Provenance("W/p", "m", None, []))
    assert found.jets_hash is None, "nothing says which jets these are"
    for index, own in enumerate(found.exits.values()):
        macs = jets.costs.mean(jets.all_at(index), () if index == 2 else (index,))
        assert own.mean_macs == macs
        assert own.macs_share == pytest.approx(macs / jets.costs.mean_full)
        right_N, full_N = jets.correct_EN[index], jets.correct_EN[-1]
        assert (own.right_only_here, own.right_only_in_full) == ((right_N & ~full_N).sum(), (full_N & ~right_N).sum())
    assert found.exits["full_model"].macs_share == 1
    assert found.notes == [
        "no jets of label_Other in these files: the AUC is averaged over the other classes",
    ]
    unknown = replace(jets, class_names=("a", "b", "c"))
    named = [evaluate_exits(unknown, name, Provenance("W/p", "m", None, [])).notes[-1] for name in (None, "a")]
    assert named[0] == "no rejections: set c.background to the background class"
    assert named[1].startswith("no jets of c")


def test_results_survive_json() -> None:
    logits_NK, label_N = sample(3, 50)
    result = evaluate_exit(logits_NK, label_N, names(3), "class_0")
    assert ExitEvaluation.model_validate_json(result.model_dump_json()) == result


def test_what_cannot_be_judged() -> None:
    with pytest.raises(DataError, match="no jets"):
        evaluate_exit(np.zeros((0, 2), np.float32), np.zeros(0, np.int64), names(2), None)
    with pytest.raises(DataError, match="1 of 2 jets have no true class"):
        evaluate_exit(np.zeros((2, 2), np.float32), np.array([0, -1]), names(2), None)
    with pytest.raises(RunError, match="not finite for 1 of 2 jets"):
        evaluate_exit(np.array([[0, np.nan], [0, 0]], np.float32), np.array([0, 1]), names(2), None)
