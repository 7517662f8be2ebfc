"""A slider along the policies that the calibration tested."""

from collections.abc import Iterator, Sequence
from html import escape
from math import inf
from typing import Any

from phaze_ee.names import class_title, exit_title, shares_title
from phaze_ee.report.markup import data_block, missing, percent
from phaze_ee.report.sequence import is_policy, kind_of, policy_curve, sequence_cost
from phaze_ee.results.evaluation import Rejection
from phaze_ee.results.policy import CurvePoint, DynamicResults, StepEvaluation
from phaze_ee.tables.style import UNKNOWN, in_percent, with_error


def slider(dynamic: DynamicResults, calibrate: str) -> str:
    """Return a slider over policies, from cheap to dear. It starts at the policy, and shows stored numbers.

    The policies are the sequence that the calibration tested; without one, the curve of the policy's score. Without
    that there is no slider; the text says so.

    Args:
        dynamic: the policy, the sequence and the curves.
        calibrate: the command line that makes another policy.
    """
    points = policy_curve(dynamic)
    if len(points) < 2:
        return missing(_no_slider(dynamic), f"{calibrate} --name NAME --epsilon NUMBER")
    start = next(index for index, point in enumerate(points) if is_policy(point, dynamic))
    shown = [_numbers(point, dynamic) for point in points]
    data = {"policy": start, "points": shown}
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td id="slider-{number}">{escape(text)}</td></tr>'
        for number, (name, text) in enumerate(shown[start]["texts"])
    )
    return (
        f'<div class="slider"><label for="slider">Policies with score {escape(dynamic.policy.score)}, from few MACs '
        "(left) to many; the tick is the chosen policy</label>"
        f'<input type="range" id="slider" list="slider-marks" min="0" max="{len(points) - 1}" value="{start}">'
        f'<datalist id="slider-marks"><option value="{start}"></option></datalist>'
        '<button type="button" id="slider-reset">Back to the policy</button>'
        f'<p id="slider-kind">{escape(shown[start]["kind"])}</p><table><tbody>{rows}</tbody></table></div>'
        f"{data_block('slider-data', data)}"
    )


def thresholds_text(thresholds: Sequence[float]) -> str:
    """Return thresholds in a line; no jet leaves where one is infinite."""
    return ", ".join("never" if value == inf else f"{value:.4g}" for value in thresholds)


def rejection_text(one: Rejection) -> str:
    """Return a rejection with its error, or its lower limit."""
    if one.value is not None:
        return with_error(one.value, one.error or 0.0)
    return UNKNOWN if one.lower_limit is None else f"> {one.lower_limit:.3g} (68 %)"


def _no_slider(dynamic: DynamicResults) -> str:
    scores = ", ".join(curve.score for curve in dynamic.curves)
    stored = f"curves are stored only for the scores {scores}" if scores else "no curve is stored"
    return (
        f"There is no slider: {stored}, and the policy has score {dynamic.policy.score}. A new calibration stores the "
        "sequence of policies that it tests, if it has more than one."
    )


def _numbers(point: CurvePoint, dynamic: DynamicResults) -> dict[str, Any]:
    shares = zip(dynamic.exits, point.exit_fractions, strict=True)
    texts = [
        ("thresholds", thresholds_text(point.thresholds)),
        ("cost", _cost(point, dynamic)),
        ("accuracy, test jets", in_percent(point.accuracy, point.accuracy_error)),
        *(_risks(point) if isinstance(point, StepEvaluation) else ()),
        ("jets leave at", ", ".join(f"{exit_title(name)} {percent(share)}" for name, share in shares)),
        *((_cut(one), rejection_text(one)) for one in point.rejections),
    ]
    kind = "This is the policy." if is_policy(point, dynamic) else kind_of(point)
    cost = sequence_cost(point) if isinstance(point, StepEvaluation) else point.macs_share
    return {"share": point.macs_share, "cost": cost, "accuracy": point.accuracy, "kind": kind, "texts": texts}


def _cost(point: CurvePoint, dynamic: DynamicResults) -> str:
    """Return the cost, for the class prior first if there is one."""
    share = f"{percent(point.macs_share)} of the full model's MACs"
    if not isinstance(point, StepEvaluation) or point.prior_share is None or dynamic.prior is None:
        return share
    mix = shares_title(dynamic.prior.class_shares or {})
    return f"{percent(point.prior_share)} for {mix}; {share} for the mix of the test jets"


def _risks(step: StepEvaluation) -> Iterator[tuple[str, str]]:
    """Yield each risk with its limit: its rate on the test jets, and the limit on the jets that tested the policies."""
    for risk in step.risks:
        found = in_percent(risk.rate.value, risk.rate.error)
        limit = step.upper_limits.get(risk.name)
        tested = "" if limit is None else f" (calibration jets: at most {100 * limit:.3g} %)"
        yield f"{risk.name}, limit {100 * risk.epsilon:.3g} %", f"{found}{tested}"


def _cut(one: Rejection) -> str:
    signal, background = class_title(one.signal), class_title(one.background)
    return f"{background} rejection at {100 * one.signal_efficiency:g} % {signal}"
