"""Answers of all exits, and what it costs to leave at each."""

import numpy as np
import pytest
import torch

from phaze_ee.errors import DataError, RunError, UsageError
from phaze_ee.exits.answers import at_exit, check_finite
from phaze_ee.exits.calibrate import Settings, calibrate
from phaze_ee.exits.costs import ExitCosts, prior_weights, weighted_mean, weighted_ratio
from phaze_ee.exits.policies import ThresholdPolicy, exit_index
from phaze_ee.exits.targets import Agreement
from phaze_ee.models.tagger import Tagger
from tests.evaluation.answers import random_answers
from tests.jets import small_tagger

COUNT_N = np.array([0, 1, 7, 30])
CHOICES = [None, (), (0,), (1,), (2,), (0, 2), (0, 1, 2)]


def linked(link: str, stages: tuple[int, ...] = (0, 1, 2)) -> Tagger:
    return Tagger(small_tagger().backbone, stages, link=link)


@pytest.mark.parametrize("exits", CHOICES)
@pytest.mark.parametrize("link", ["independent", "cascade", "boosted"])
def test_costs_are_those_of_the_tagger(link: str, exits: tuple[int, ...] | None) -> None:
    tagger = linked(link)
    expected_EN = tagger.exit_macs(torch.from_numpy(COUNT_N), exits=exits).numpy()
    costs = ExitCosts.of(tagger, COUNT_N)
    for exit_ in range(4):
        index_N = np.full(4, exit_)
        assert costs.spent(index_N, exits).tolist() == expected_EN[exit_].tolist()
    index_N = np.array([0, 3, 1, 2])
    assert costs.mean(index_N, exits) == at_exit(expected_EN, index_N).mean()


@pytest.mark.parametrize("link", ["independent", "cascade", "boosted"])
def test_the_full_model_costs_only_the_heads_that_its_link_needs(link: str) -> None:
    tagger = linked(link)
    costs = ExitCosts.of(tagger, COUNT_N)
    assert costs.full_N.tolist() == tagger.exit_macs(torch.from_numpy(COUNT_N), exits=())[-1].tolist()
    assert (costs.full_N < costs.all_heads_EN[-1]).any() == (link != "boosted")


def test_fewer_exits_cost_what_a_tagger_with_these_exits_costs() -> None:
    part = ExitCosts.of(linked("independent"), COUNT_N).with_exits([0, 2])
    expected = ExitCosts.of(linked("independent", (0, 2)), COUNT_N)
    np.testing.assert_array_equal(part.all_heads_EN, expected.all_heads_EN)
    np.testing.assert_array_equal(part.spent(np.full(4, 1), [1]), expected.spent(np.full(4, 1), [1]))


def test_shares_of_the_full_model() -> None:
    costs = ExitCosts.of(linked("independent"), COUNT_N)
    weight_N = np.array([0.0, 2.0, 1.0, 1.0])
    relative = costs.relative_to_full_model(weight_N)
    assert relative.mean_full == pytest.approx(1)
    assert relative.unit == pytest.approx((weight_N * costs.full_N).mean())
    assert relative.relative_to_full_model(weight_N).unit == pytest.approx(relative.unit)
    np.testing.assert_allclose(relative.all_heads_EN * relative.unit, costs.all_heads_EN)


def test_selected_jets_keep_everything_that_is_known_about_them() -> None:
    answers = random_answers(20)
    index_N = np.array([3, 11, 3])
    some = answers.select(index_N)
    assert len(some) == 3
    np.testing.assert_array_equal(some.logits_ENK, answers.logits_ENK[:, index_N])
    np.testing.assert_array_equal(some.label_N, answers.label_N[index_N])
    np.testing.assert_array_equal(some.particle_count_N, answers.particle_count_N[index_N])
    np.testing.assert_array_equal(some.observers["jet_pt"], answers.observers["jet_pt"][index_N])
    np.testing.assert_array_equal(some.costs.all_heads_EN, answers.costs.all_heads_EN[:, index_N])


def test_fewer_exits_keep_the_full_model() -> None:
    answers = random_answers(20)
    part = answers.with_exits([1])
    assert (part.exit_count, part.exit_names) == (1, ("exit_0", "full_model"))
    np.testing.assert_array_equal(part.logits_ENK, answers.logits_ENK[[1, 2]])


def test_where_jets_leave_and_what_they_get_there() -> None:
    answers = random_answers(200)
    policy = ThresholdPolicy("confidence", [0.7, 0.7], [1.0, 2.0, 1.0])
    tempered = answers.tempered(policy.temperatures)
    index_N = tempered.exit_index(policy)
    assert set(index_N) == {0, 1, 2}
    np.testing.assert_array_equal(index_N, exit_index(policy, torch.from_numpy(tempered.logits_ENK)).numpy())
    mixture_NK = tempered.mixture(index_N)
    assert mixture_NK.dtype == np.float64
    np.testing.assert_array_equal(mixture_NK[index_N == 1], tempered.logits_ENK[1, index_N == 1])
    np.testing.assert_array_equal(tempered.scores(policy.score)[0] >= 0.7, index_N == 0)


def test_classes() -> None:
    answers = random_answers(30)
    assert answers.jets_per_class == {name: int(answers.of_class(name).sum()) for name in answers.class_names}
    assert answers.labelled
    without = answers.select(np.flatnonzero(answers.label_N != 1))
    assert without.jets_per_class["label_Hbb"] == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_answers_that_are_not_finite_are_refused(value: float) -> None:
    answers = random_answers(50)
    check_finite(answers.logits_ENK)
    answers.logits_ENK[0, 3, 1] = answers.logits_ENK[2, 3, 0] = answers.logits_ENK[1, 7, 0] = value
    with pytest.raises(RunError, match="not finite for 2 of 50 jets"):
        check_finite(answers.logits_ENK)
    with pytest.raises(RunError, match="not finite for 2 of 50 jets"):
        calibrate(answers, Settings(Agreement(epsilon=0.1)))


def test_a_prior_gives_the_classes_their_shares() -> None:
    label_N = np.array([0, 0, 0, 1, 2, 2])
    names = ("a", "b", "c")
    weight_N = prior_weights(label_N, names, {"a": 3.0, "b": 1.0})
    assert weight_N.tolist() == pytest.approx([1.5, 1.5, 1.5, 1.5, 0, 0])
    assert prior_weights(label_N, names, None).tolist() == [1] * 6
    with pytest.raises(UsageError, match="class_prior names x"):
        prior_weights(label_N, names, {"x": 1.0})
    with pytest.raises(DataError, match="gives b a share"):
        prior_weights(label_N[label_N != 1], names, {"b": 1.0})
    with pytest.raises(DataError, match="have no class"):
        prior_weights(np.array([0, -1]), names, {"a": 1.0})


def test_errors_of_means_are_their_scatter() -> None:
    random = np.random.default_rng(0)
    samples = [random.normal(2.0, 1.0, (2, 400)) for _ in range(300)]
    weight_N = random.uniform(0.5, 1.5, 400)
    means = np.array([weighted_mean(upper_N, weight_N) for upper_N, _ in samples])
    assert means[:, 1].mean() == pytest.approx(means[:, 0].std(), rel=0.15)
    ratios = np.array([weighted_ratio(upper_N, lower_N + 3, weight_N) for upper_N, lower_N in samples])
    assert ratios[:, 0].mean() == pytest.approx(0.4, abs=0.01)
    assert ratios[:, 1].mean() == pytest.approx(ratios[:, 0].std(), rel=0.15)


@pytest.mark.parametrize("few", [2, 20, 100])
def test_errors_under_a_prior_are_those_within_the_classes(few: int) -> None:
    random = np.random.default_rng(few)
    label_N = np.repeat([0, 1], [400 - few, few])
    weight_N = prior_weights(label_N, ("a", "b"), {"a": 1.0, "b": 1.0})
    samples = [np.array([0.1, 0.9])[label_N] + 0.3 * random.normal(size=400) for _ in range(500)]
    means = np.array([weighted_mean(value_N, weight_N, label_N) for value_N in samples])
    assert np.sqrt((means[:, 1] ** 2).mean()) == pytest.approx(means[:, 0].std(), rel=0.12)
    ratios = np.array([weighted_ratio(value_N, np.ones(400), weight_N, label_N) for value_N in samples])
    np.testing.assert_allclose(ratios, means)


def test_a_class_of_one_jet_counts_by_its_distance_from_the_mean() -> None:
    value_N, label_N = np.array([0.0, 0.0, 1.0]), np.array([0, 0, 1])
    weight_N = prior_weights(label_N, ("a", "b"), {"a": 1.0, "b": 1.0})
    assert weighted_mean(value_N, weight_N, label_N) == (0.5, 0.25)
