"""What exits answer, made small: which jets are right, how well they are calibrated, what a policy costs."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.study.numbers import pack_costs, pack_rights
from phaze_ee.evaluation.metrics import expected_calibration_error
from phaze_ee.evaluation.operating_point import confidence
from phaze_ee.exits.answers import Answers, at_exit
from phaze_ee.exits.calibrate import relative_answers
from phaze_ee.exits.candidates import candidates
from phaze_ee.exits.fits import fit_temperatures
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.scores import make_score
from phaze_ee.exits.targets import NetAccuracyDrop

RULES = 3  # of this module, and of how mode calibrate shapes policies; counted up when one of them changes
LOSS = 0.01  # of accuracy, at which costs are compared


def judged(calibration: Answers, samples: Mapping[str, Answers], *, each_cost: bool = False) -> dict[str, Any]:
    """Judge exits on samples, and the cheapest policy that loses 1 % of accuracy on the calibration jets.

    Each sample has the exits' accuracy, expected calibration error and mean cross-entropy, and the policy's accuracy
    and mean cost, in MACs of the full model on the same jets. ``right`` says which jets are right, for paired errors:
    of the exits, of the full model, and last of the policy.

    Args:
        calibration: answers for the jets that choose temperatures and thresholds.
        samples: answers for other jets.
        each_cost: the policy's cost of each jet too, as ``spent``, which takes far more place than all others.
    """
    policy = cheapest(calibration)
    return {
        "exits": list(calibration.exit_names),
        "temperatures": list(policy.temperatures or []),
        "samples": {name: _sample(answers, policy, each_cost) for name, answers in samples.items()},
    }


def cheapest(calibration: Answers) -> ThresholdPolicy:
    """Return the cheapest policy by confidence whose accuracy is at most 1 % below the full model's on these jets.

    The policies are those that mode calibrate would test for the target net_accuracy_drop; nothing is tested here.
    """
    temperatures = fit_temperatures(calibration)
    answers = relative_answers(calibration.tempered(temperatures), None)
    score = make_score("confidence")
    found = candidates([score], answers, NetAccuracyDrop(epsilon=LOSS).shaping_risks(answers))
    good = [candidate for candidate in found if candidate.risk <= 1]
    never = [math.inf] * answers.exit_count
    thresholds = min(good, key=lambda candidate: candidate.cost).policy.thresholds if good else never
    return ThresholdPolicy(score, thresholds, temperatures)


def _sample(answers: Answers, policy: ThresholdPolicy, each_cost: bool) -> dict[str, Any]:
    right_EN = answers.correct_EN
    # In single precision, as policies are evaluated everywhere.
    index_N = answers.tempered(policy.temperatures).exit_index(policy)
    relative = relative_answers(answers, None).costs
    spent_N = relative.spent(index_N, policy.exits)
    every = [*right_EN, at_exit(right_EN, index_N)]
    return {
        "jets": len(answers),
        "accuracy": [float(right_N.mean()) for right_N in every],
        "ece": [
            expected_calibration_error(confidence(logits_NK), right_N)
            for logits_NK, right_N in zip(answers.logits_ENK.astype(np.float64), right_EN, strict=True)
        ],
        "cross_entropy": [_cross_entropy(answers, exit_) for exit_ in range(len(right_EN))],
        "cost": float(spent_N.mean()),
        "cost_error": float(spent_N.std() / np.sqrt(len(spent_N))),
        "leaving": (np.bincount(index_N, minlength=len(right_EN)) / len(answers)).tolist(),
        "right": pack_rights(np.stack(every)),
        **({"spent": pack_costs(spent_N)} if each_cost else {}),
    }


def _cross_entropy(answers: Answers, exit_: int) -> float:
    logits_NK = answers.logits_ENK[exit_].astype(np.float64)
    own_N = logits_NK[np.arange(len(answers)), answers.label_N]
    return float((np.logaddexp.reduce(logits_NK, axis=1) - own_N).mean())
