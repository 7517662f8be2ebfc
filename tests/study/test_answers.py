"""What the study computes from answers: policies at a fixed loss, cuts at a fixed loss of signal, paired AUROCs."""

from typing import Any

import numpy as np
import pytest

from benchmarks.study.cuts import BACKGROUND, first_exit_against_cuts
from benchmarks.study.judge import LOSS, judged
from benchmarks.study.numbers import unpack_rights
from benchmarks.study.q4_ood import BASELINE, DISTANCE, MEAN, paired_auroc, scores
from benchmarks.study.q5_leaving import explained
from phaze_ee.evaluation.ood import auroc
from phaze_ee.exits.answers import Answers
from phaze_ee.exits.costs import ExitCosts
from phaze_ee.models.links import IndependentLink

CLASSES = (BACKGROUND, "label_Hbb", "label_Tbqq")


def answers(jets: int, seed: int, sharpness: tuple[float, ...] = (2.0, 4.0, 6.0)) -> Answers:
    """Return answers whose exits know the class the better the later they are."""
    rng = np.random.default_rng(seed)
    label_N = rng.integers(0, len(CLASSES), jets)
    noise_ENK = rng.normal(size=(len(sharpness), jets, len(CLASSES)))
    truth_NK = np.eye(len(CLASSES))[label_N]
    logits_ENK = np.array(sharpness)[:, None, None] * truth_NK + 2 * noise_ENK
    trunk_EN = np.array([1.0, 3.0, 10.0])[:, None] * np.ones(jets)
    costs = ExitCosts(trunk_EN, np.full((2, jets), 0.1), IndependentLink(2, len(CLASSES)), np.ones(jets))
    return Answers(logits_ENK, label_N, np.full(jets, 40), CLASSES, costs)


def test_the_policy_loses_what_it_may_and_costs_less() -> None:
    calibration, test = answers(4000, 1), answers(4000, 2)
    found = judged(calibration, {"calibration": calibration, "test": test})["samples"]
    own = found["calibration"]
    assert own["accuracy"][-1] >= own["accuracy"][-2] - LOSS
    assert found["test"]["cost"] < 0.9
    assert sum(found["test"]["leaving"]) == pytest.approx(1.0)


def test_the_bits_are_the_accuracies() -> None:
    test = answers(1003, 2)
    found = judged(answers(2000, 1), {"test": test})["samples"]["test"]
    right_RN = unpack_rights(found["right"], 4)
    assert [float(right_N.mean()) for right_N in right_RN] == found["accuracy"]
    np.testing.assert_array_equal(right_RN[:-1], test.correct_EN)


def samples(leak: float) -> tuple[dict[str, Answers], dict[str, dict[str, Any]]]:
    """Return answers, and an observable that separates the background by ``leak``, beside one of mere noise."""
    found = {name: answers(4000, seed) for seed, name in enumerate(("train", "calibration", "test"))}
    rng = np.random.default_rng(9)
    columns = {
        name: {"good": rng.normal(size=4000) - leak * one.of_class(BACKGROUND), "noise": rng.normal(size=4000)}
        for name, one in found.items()
    }
    return found, columns


def test_all_rules_lose_five_percent_and_the_best_observable_is_cut() -> None:
    result = first_exit_against_cuts(*samples(leak=2.0), seed=0)["label_Hbb"]
    assert result["cut"] == "good, from below"
    assert list(result["signal_lost"].values()) == pytest.approx([0.05] * 3, abs=0.02)
    # A cut at -1.64 on a normal variable, and background shifted by -2.
    assert result["rejected"]["cut"] == pytest.approx(0.64, abs=0.05)


def test_a_cut_on_noise_rejects_what_it_loses() -> None:
    result = first_exit_against_cuts(*samples(leak=0.0), seed=0)["label_Tbqq"]
    assert result["rejected"]["cut"] < 0.09
    assert result["rejected"]["exit"] > 0.3


def test_what_decides_the_exit_is_found() -> None:
    calibration, test = answers(4000, 1), answers(4000, 2)

    def columns(known: Answers) -> dict[str, Any]:
        margin_NK = np.sort(known.logits_ENK[1], axis=1)
        noise_N = np.random.default_rng(5).normal(size=len(known))
        return {"margin": margin_NK[:, -1] - margin_NK[:, -2], "noise": noise_N}

    found = explained(calibration, test, columns(calibration), columns(test), seed=0)
    assert found["importance"]["margin"] > 0.2 > 0.02 > abs(found["importance"]["noise"])
    assert found["explained"]["observables"] > 0.3
    assert abs(found["explained"]["true class"]) < 0.05


def test_the_difference_of_aurocs_has_the_error_of_many_samples() -> None:
    def sample(rng: np.random.Generator) -> tuple[Any, Any]:
        shared_N, shared_M = rng.normal(size=300), rng.normal(size=200)
        own_2N = np.stack([shared_N, shared_N + 0.5 * rng.normal(size=300)])
        return own_2N, np.stack([shared_M + 1.0, shared_M + 1.0 + 0.5 * rng.normal(size=200)])

    found = [paired_auroc(*sample(np.random.default_rng(seed))) for seed in range(300)]
    values = np.array([one["value"] for one in found])
    assert np.mean([one["error"] for one in found]) == pytest.approx(values.std(ddof=1), rel=0.15)
    own_2N, ood_2M = sample(np.random.default_rng(0))
    areas = [auroc(own_N, ood_M)[0] for own_N, ood_M in zip(own_2N, ood_2M, strict=True)]
    assert found[0]["value"] == pytest.approx(areas[1] - areas[0])


def test_the_mean_energy_adds_what_each_exit_notices() -> None:
    calibration, own = answers(3000, 1), answers(1000, 2)
    unsure = scores(calibration, answers(1000, 3, sharpness=(1.0, 2.0, 5.0)))
    areas = {name: auroc(scores(calibration, own)[name], unsure[name])[0] for name in (BASELINE, MEAN)}
    assert areas[MEAN] > areas[BASELINE] + 0.05 > 0.6


def test_the_distance_notices_jets_on_which_only_early_exits_are_odd() -> None:
    calibration, own = answers(3000, 1), answers(1000, 2)
    odd = answers(1000, 3, sharpness=(8.0, 4.0, 6.0))
    own_scores, odd_scores = scores(calibration, own), scores(calibration, odd)
    areas = {name: auroc(own_scores[name], odd_scores[name])[0] for name in (BASELINE, MEAN, DISTANCE)}
    assert areas[DISTANCE] > 0.8
    assert areas[MEAN] < 0.5  # early exits are surer of these jets than of others
    assert areas[BASELINE] == pytest.approx(0.5, abs=0.05)
