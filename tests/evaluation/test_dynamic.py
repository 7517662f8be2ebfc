"""What is computed from stored answers is what the engine does."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from phaze_ee.engine.engine import Engine
from phaze_ee.evaluation.answers import predict
from phaze_ee.evaluation.dynamic import evaluate_dynamic
from phaze_ee.evaluation.metrics import evaluate_exits
from phaze_ee.evaluation.operating_point import cost_accuracy_area
from phaze_ee.exits import tested
from phaze_ee.exits.answers import Answers
from phaze_ee.exits.drift import DriftReference
from phaze_ee.exits.policy_file import CalibrationSample, CostCurve, ExitPolicyFile, Guarantee, KeptPolicy
from phaze_ee.exits.scores import Confidence, Margin
from phaze_ee.exits.steps import PolicySequence, SequenceStep
from phaze_ee.exits.targets import AccuracyDrop, Agreement, AnyTarget, Budget, NetAccuracyDrop, SignalEfficiency
from phaze_ee.names import exit_names
from phaze_ee.results.base import Provenance
from phaze_ee.results.evaluation import EvaluationResults
from phaze_ee.results.policy import DynamicResults, OperatingPoint
from tests.evaluation.answers import CLASSES, random_answers
from tests.jets import CLASSES as NETWORK_CLASSES
from tests.jets import labelled_batch, small_tagger


def policy_file(
    thresholds: tuple[float, ...] = (0.6, 0.7),
    target: AnyTarget | None = None,
    temperatures: list[float] | None = None,
    curve: tuple[tuple[float, float], ...] = ((0.9, 0.9), (-math.inf, math.inf)),
    classes: tuple[str, ...] = CLASSES,
) -> ExitPolicyFile:
    return ExitPolicyFile(
        project="W/p",
        model="best_model.pt",
        model_hash="abc",
        classes=list(classes),
        exit_names=list(exit_names(len(thresholds) + 1)),
        score=Confidence(),
        thresholds=list(thresholds),
        temperatures=temperatures,
        target=target or AccuracyDrop(epsilon=0.02),
        guarantee=Guarantee(method="ltt", delta=0.05, holds=True, statement="", risks=[]),
        calibration=CalibrationSample(
            files=["val.root"], held_out_of_validation=False, jets=1, shaping=1, testing=1, seed=0, jets_per_class=None
        ),
        realised={},
        curves=[CostCurve(score=Margin(), thresholds=[list(point) for point in curve])],
        reference=DriftReference(distributions={}),
        notes=[],
    )


def evaluation(answers: Answers, files: tuple[str, ...] = ("test.root",)) -> EvaluationResults:
    return EvaluationResults(
        exits={},
        project="W/p",
        model="best_model.pt",
        model_hash="abc",
        classes=list(answers.class_names),
        jets=len(answers),
        jets_per_class=answers.jets_per_class,
        files=list(files),
    )


def kept(file: ExitPolicyFile) -> KeptPolicy:
    return KeptPolicy("default", Path("default.json"), file, "of the policy")


def judged(answers: Answers, file: ExitPolicyFile, background: str | None = "label_QCD") -> DynamicResults:
    return evaluate_dynamic(answers, kept(file), background, evaluation(answers))


def test_figures_are_those_of_the_engine() -> None:
    tagger = small_tagger((0, 1)).packed()
    batch = labelled_batch(60, dtype=torch.float64)
    names = tuple(f"class_{index}" for index in range(NETWORK_CLASSES))
    answers = predict(tagger, [batch], names)
    middle = [float(answers.logits_ENK[index].max(axis=1).mean()) for index in range(2)]
    thresholds = tuple(float(np.exp(value) / (np.exp(value) + 2)) for value in middle)
    file = policy_file(thresholds, temperatures=[0.5, 2.0, 1.5], curve=((0.1, 0.1), (0.3, math.inf)), classes=names)
    found = evaluate_dynamic(answers, kept(file), "class_0", evaluation(answers))

    result = Engine(tagger, file.policy())(batch.inputs)
    shares = result.exit_index_N.bincount(minlength=3).double() / 60
    assert 0 < shares[0] < 1
    assert found.policy.exit_fractions == pytest.approx(shares.tolist())
    # The engine carries a jet that has its answer on where dropping it would cost more.
    needed_EN = tagger.exit_macs(batch.inputs.particle_count_N)
    assert found.policy.mean_macs == needed_EN[result.exit_index_N, torch.arange(60)].double().mean()
    full_macs = tagger.exit_macs(batch.inputs.particle_count_N, exits=())[-1].double().mean()
    assert found.mixture is not None
    for one in (found.policy, found.mixture):
        assert one.macs_share == pytest.approx(float(found.policy.mean_macs / full_macs))
    assert found.policy.mean_macs <= result.macs_N.double().mean()
    assert found.policy.accuracy == (result.logits_NK.argmax(dim=1) == batch.label_N).double().mean()
    assert [point.thresholds for point in found.curves[0].points] == [[0.1, 0.1], [0.3, math.inf]]
    assert found.exits["full_model"].all_leave.macs_share == 1
    ends = (found.exits[name].all_leave for name in ("exit_0", "full_model"))
    assert found.curves[0].area == cost_accuracy_area(found.curves[0].points, *ends)


def test_everything_at_the_full_model_costs_nothing_in_accuracy() -> None:
    answers = random_answers(4_000)
    found = judged(answers, policy_file((math.inf, math.inf)))
    assert found.policy.macs_share == 1  # heads that nobody may leave at are not evaluated
    assert found.policy.exit_fractions == [0, 0, 1]
    assert (found.policy.accuracy_drop, found.policy.accuracy_drop_error) == (0, 0)
    assert found.policy.disagreement.value == 0
    assert found.policy.risks[0].rate.value == 0
    assert found.mass is not None
    assert found.mass.mixture == found.mass.full_model
    tempered = judged(answers, policy_file((math.inf, math.inf), temperatures=[1.0, 1.0, 0.25]))
    assert [note for note in tempered.notes if note not in found.notes] == [
        "no jet leaves early: the policy is the full model, whose logits it divides by a temperature of 0.25; AUC and "
        "ECE depend on it"
    ]


def test_realised_risks_are_those_of_the_target() -> None:
    answers = random_answers(2_000)
    everywhere = (-math.inf, math.inf)
    right_EN = answers.logits_ENK.argmax(axis=2) == answers.label_N
    class_EN = answers.logits_ENK.argmax(axis=2)

    drop = judged(answers, policy_file(everywhere)).policy
    assert drop.risks[0].rate.value == pytest.approx((right_EN[-1] & ~right_EN[0]).mean())
    assert drop.accuracy_drop == pytest.approx(right_EN[-1].mean() - right_EN[0].mean())

    # The first exit is better than a full model whose answers are those of another jet: its net loss is below 0.
    worse = replace(answers, logits_ENK=np.stack([*answers.logits_ENK[:2], np.roll(answers.logits_ENK[-1], 1, axis=0)]))
    gain = right_EN[0].mean() - worse.correct_EN[-1].mean()
    (net,) = judged(worse, policy_file(everywhere, NetAccuracyDrop(epsilon=0.1))).policy.risks
    assert net.rate.value == pytest.approx(-gain)
    assert net.rate.value < -3 * net.rate.error < 0

    other = judged(answers, policy_file(everywhere, Agreement(epsilon=0.1))).policy
    assert other.risks[0].rate == other.disagreement
    assert other.disagreement.value == pytest.approx((class_EN[0] != class_EN[-1]).mean())
    assert judged(answers, policy_file(everywhere, Budget(cost=0.5))).policy.risks == []


def test_the_sequence_has_the_figures_of_the_policy_and_of_what_lies_around_it() -> None:
    answers = random_answers(2_000)
    target = Agreement(epsilon=0.1)
    risk = tested.TestedRisk(
        name="other answers", epsilon=0.1, lost=1, jets=100, rate=0.01, upper_limit=0.05, p_value=0.01
    )  # fmt: skip
    file = policy_file((0.6, 0.7), target, temperatures=[0.5, 2.0, 1.5])
    thresholds = ((math.inf, math.inf), (0.6, 0.7), (0.4, 0.4))
    steps = [
        SequenceStep(score=0, thresholds=list(own), passed=place < 2, upper_limits=[0.01 * place])
        for place, own in enumerate(thresholds)
    ]
    changes = {
        "guarantee": file.guarantee.model_copy(update={"risks": [risk]}),
        "sequence": PolicySequence(scores=[file.score], steps=steps),
    }
    found = judged(answers, file.model_copy(update=changes))
    full, own, fastest = found.sequence
    assert [step.is_policy for step in found.sequence] == [False, True, False]
    assert [step.passed for step in found.sequence] == [True, True, False]
    assert own.risks == found.policy.risks
    for name in OperatingPoint.model_fields:
        assert getattr(own, name) == getattr(found.policy, name)
    assert (full.macs_share, full.risks[0].rate.value) == (1, 0)
    assert fastest.macs_share < own.macs_share
    assert fastest.risks[0].rate.value > own.risks[0].rate.value
    assert [step.upper_limits for step in found.sequence] == [{"other answers": 0.01 * place} for place in range(3)]
    assert judged(answers, file).sequence == []


def test_a_working_point_is_judged_at_the_cut_of_the_policy() -> None:
    answers = random_answers(2_000)
    target = SignalEfficiency(
        epsilon=0.01, signal="label_Hbb", background="label_QCD", efficiency=0.5, background_growth=0.1,
        form="two_sided", cut=2.0,
    )  # fmt: skip
    found = judged(answers, policy_file((-math.inf, math.inf), target))
    odds_EN = answers.logits_ENK[:, :, 1] - answers.logits_ENK[:, :, 0]
    signal_N = (answers.label_N == 1) & (odds_EN[-1] >= 2)
    lost, added = found.policy.risks
    assert lost.rate.value == pytest.approx((odds_EN[0, signal_N] < 2).mean())
    assert added.name == "background added"
    assert "cut 2" in found.policy.target
    assert "background_growth 0.1" in found.policy.target
    reject = target.model_copy(update={"form": "reject"})
    assert "background_growth" not in judged(answers, policy_file((-math.inf, math.inf), reject)).policy.target
    assert found.mass is not None
    assert (found.mass.signal, found.mass.signal_efficiency) == ("label_Hbb", 0.5)


def test_classes_that_the_target_needs_and_are_not_there() -> None:
    answers = random_answers(300)
    no_signal = replace(answers, label_N=np.where(answers.label_N == 1, 2, answers.label_N))
    target = SignalEfficiency(
        epsilon=0.01, signal="label_Hbb", background="label_QCD", efficiency=0.5, background_growth=0.1,
        form="reject", cut=2.0,
    )  # fmt: skip
    found = judged(no_signal, policy_file(target=target))
    assert found.policy.risks == []
    assert found.mass is None
    assert any("no jets of label_Hbb" in note for note in found.notes)


def test_another_mix_of_classes_than_the_promise_is_for_is_noted() -> None:
    answers = random_answers(3_000)  # about as many of each class

    def notes(counts: list[int] | None, **changes: object) -> list[str]:
        file = policy_file(**changes)  # type: ignore[arg-type]
        known = None if counts is None else dict(zip(CLASSES, counts, strict=True))
        calibration = file.calibration.model_copy(update={"jets_per_class": known})
        found = judged(answers, file.model_copy(update={"calibration": calibration}))
        return [note for note in found.notes if "mix of classes" in note]

    (note,) = notes([200, 200, 600])
    here = 100 * (answers.label_N == 2).mean()
    assert note.startswith(f"{here:.0f} % of these jets are {CLASSES[2].removeprefix('label_')} and 60 % of the calib")
    assert notes([100, 100, 100]) == []
    assert notes([20, 20, 26]) == [], "too few to tell"
    assert notes(None) == []
    target = SignalEfficiency(
        epsilon=0.01, signal="label_Hbb", background="label_QCD", efficiency=0.5, background_growth=0.1,
        form="reject", cut=2.0,
    )  # fmt: skip
    assert notes([200, 200, 600], target=target) == [], "its risks are of one class each"


def test_a_cut_that_no_background_passes_has_no_mass_shapes() -> None:
    answers = random_answers(300)
    apart_ENK = answers.logits_ENK + 50 * np.eye(3)[answers.label_N]
    found = judged(replace(answers, logits_ENK=apart_ENK.astype(np.float32)), policy_file())
    assert found.mass is None
    background = (answers.label_N == 0).sum()
    assert any(f"none of {background} jets of label_QCD passes the cut for 50 % of" in note for note in found.notes)


def test_without_background_or_observers() -> None:
    answers = replace(random_answers(300), observers={}, class_names=("a", "b", "c"))
    found = judged(answers, policy_file(), background=None)
    assert found.policy.rejections == []
    assert found.mass is None
    assert {(rates.sample, rates.observable) for rates in found.exit_rates} == {("all", "jet_nparticles")}


def test_jets_of_the_calibration_are_told() -> None:
    answers = random_answers(100)
    same = evaluate_dynamic(answers, kept(policy_file()), None, evaluation(answers, ("test.root", "val.root")))
    assert any("calibrated" in note for note in same.notes)
    assert not any("calibrated" in note for note in judged(answers, policy_file()).notes)


def test_calibration_of_the_mixture_follows_the_temperatures() -> None:
    answers = random_answers(3_000)
    cold = judged(answers, policy_file(temperatures=[0.05] * 3))
    warm = judged(answers, policy_file(temperatures=[1.5] * 3))
    assert cold.policy.expected_calibration_error > 2 * warm.policy.expected_calibration_error
    assert set(cold.exits) == {"exit_0", "exit_1", "full_model"}


def test_jets_that_the_policy_alone_or_the_full_model_alone_has_right_are_counted() -> None:
    answers = random_answers(400)
    file = policy_file(temperatures=[2.0, 0.5, 1.5])
    results = judged(answers, file)
    policy, mixture = file.policy(), results.mixture
    assert mixture is not None
    tempered = answers.tempered(policy.temperatures)
    class_N = tempered.mixture(tempered.exit_index(policy)).argmax(axis=1)
    pairs = list(zip(class_N == answers.label_N, answers.correct_EN[-1], strict=True))
    assert mixture.right_only_here == pairs.count((True, False)) > 0
    assert mixture.right_only_in_full == pairs.count((False, True)) > 0
    assert mixture.right_only_in_full - mixture.right_only_here == pytest.approx(400 * results.policy.accuracy_drop)


def test_jets_that_an_exit_alone_has_right_are_counted() -> None:
    answers = random_answers(400)
    found = evaluate_exits(answers, None, Provenance("W/p", "best_model.pt", None, ()))
    for exit_, correct_N in zip(found.exits.values(), answers.correct_EN, strict=True):
        pairs = list(zip(correct_N, answers.correct_EN[-1], strict=True))
        assert (exit_.right_only_here, exit_.right_only_in_full) == (
            pairs.count((True, False)), pairs.count((False, True)),
        )  # fmt: skip
    assert found.exits["full_model"].right_only_here == 0
    assert found.exits["exit_0"].right_only_here
