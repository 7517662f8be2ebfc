import numpy as np
import pytest

from phaze_ee.evaluation.ood_scores import OOD_SCORES

# Three exits, two jets, two classes: the second jet changes its mind at exit 1 and again at the full model.
PROBABILITY_ENK = np.array([[[0.9, 0.1], [0.9, 0.1]], [[0.9, 0.1], [0.3, 0.7]], [[0.9, 0.1], [0.8, 0.2]]])
LOGITS_ENK = np.log(PROBABILITY_ENK)
EXITS = len(LOGITS_ENK)


@pytest.mark.parametrize(
    ("name", "exit_", "expected_N"),
    [
        ("energy", 0, [0, 0]),
        ("max_probability", 1, [-0.9, -0.7]),
        ("disagreement", 0, [0, 0.2]),
        ("disagreement", 1, [0, 1.2]),
        ("disagreement", 2, [0, 1.2]),
        ("disagreement_so_far", 1, [0, 1.2]),
        ("disagreement_so_far", 2, [0, 1.2]),
    ],
)
def test_values_by_hand(name: str, exit_: int, expected_N: list[float]) -> None:
    assert OOD_SCORES[name](LOGITS_ENK, exit_) == pytest.approx(expected_N, abs=1e-12)


def test_energy_falls_with_the_scale_of_the_logits() -> None:
    assert OOD_SCORES["energy"](LOGITS_ENK + 3, 2) == pytest.approx([-3, -3])


@pytest.mark.parametrize("name", [name for name in OOD_SCORES if name != "energy"])
def test_scores_of_probabilities_do_not_change_with_a_constant_in_the_logits(name: str) -> None:
    shifted_ENK = LOGITS_ENK + np.array([5.0, -3.0])[:, None]
    assert OOD_SCORES[name](shifted_ENK, 2) == pytest.approx(OOD_SCORES[name](LOGITS_ENK, 2))


@pytest.mark.parametrize("name", OOD_SCORES)
def test_scores_know_where_they_exist_and_what_they_need(name: str) -> None:
    score = OOD_SCORES[name]
    logits_ENK = np.random.default_rng(0).normal(size=(4, 50, 5))
    for exit_ in range(4):
        if not score.exists(exit_, 4):
            assert (name, exit_) == ("disagreement_so_far", 0)
            continue
        score_N = score(logits_ENK, exit_)
        assert score_N.shape == (50,)
        assert len(np.unique(score_N)) == 50
        assert score.needs_full_model == (name == "disagreement")
        if not score.needs_full_model:  # what comes later makes no difference
            assert score(logits_ENK[: exit_ + 1], exit_) == pytest.approx(score_N)


def test_disagreements_meet_at_the_full_model() -> None:
    logits_ENK = np.random.default_rng(0).normal(size=(4, 50, 5))
    known = [OOD_SCORES[name](logits_ENK, 3) for name in ("disagreement", "disagreement_so_far")]
    assert known[0] == pytest.approx(known[1])


def test_without_exits_there_is_nothing_to_disagree() -> None:
    assert [name for name, score in OOD_SCORES.items() if score.exists(0, 1)] == ["energy", "max_probability"]
