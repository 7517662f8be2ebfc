"""The policies along which the slider moves: the sequence that the calibration tested."""

from math import inf

from phaze_ee.results.policy import CurvePoint, DynamicResults, StepEvaluation

SEQUENCE = "sequence of the calibration"


def tested_sequence(dynamic: DynamicResults) -> list[StepEvaluation]:
    """Return the sequence of the calibration; empty if it has one policy only, or not the policy that is shown."""
    steps = dynamic.sequence
    return steps if len(steps) > 1 and any(step.is_policy for step in steps) else []


def policy_curve(dynamic: DynamicResults) -> list[CurvePoint]:
    """Return the policies around the policy, by rising cost: the sequence that its calibration tested.

    Without a stored sequence, it is the curve of the policy's score with the policy.
    """
    if sequence := tested_sequence(dynamic):
        return list(reversed(sequence))
    own = [point for curve in dynamic.curves if curve.score == dynamic.policy.score for point in curve.points]
    return sorted([*own, dynamic.policy], key=lambda point: point.mean_macs)


def sequence_cost(step: StepEvaluation) -> float:
    """Return the cost that orders a sequence, as a share of the full model's: that for the class prior if there is one.

    For another mix of classes a later policy may cost more than one before it.
    """
    return step.macs_share if step.prior_share is None else step.prior_share


def is_policy(point: CurvePoint, dynamic: DynamicResults) -> bool:
    """Return whether a point of the curve is the policy itself."""
    return point.is_policy if isinstance(point, StepEvaluation) else point is dynamic.policy


def kind_of(point: CurvePoint) -> str:
    """Return in words what a policy of the slider promises."""
    if not isinstance(point, StepEvaluation):
        return "These thresholds were not tested: they promise nothing."
    if set(point.thresholds) <= {inf}:
        return "This is the full model: no jet leaves early, and nothing is lost."
    if point.passed:
        return "This policy passed the same tests as the chosen one, so it has the same promise."
    if point.upper_limits:
        return "This policy did not pass its test, or comes after one that did not: it promises nothing."
    return "This policy was not tested: it promises nothing."
