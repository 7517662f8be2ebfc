"""A slider along the stored cost-accuracy curve of the policy's score."""

from collections.abc import Sequence
from html import escape
from math import inf
from typing import Any

from phaze_ee.names import class_title, exit_title
from phaze_ee.report.charts import policy_curve
from phaze_ee.report.markup import data_block, missing, percent
from phaze_ee.results.evaluation import Rejection
from phaze_ee.results.policy import CurvePoint, DynamicResults
from phaze_ee.tables.style import UNKNOWN, in_percent, with_error


def slider(dynamic: DynamicResults, calibrate: str) -> str:
    """Return a slider over thresholds, from cheap to dear. It starts at the policy, and shows stored numbers.

    Without a stored curve of the policy's score there is none; the text says so.

    Args:
        dynamic: the policy and the curves.
        calibrate: the command line that makes another policy.
    """
    points = policy_curve(dynamic)
    if len(points) < 2:
        return missing(_no_slider(dynamic), f"{calibrate} --name NAME --epsilon NUMBER")
    start = next(index for index, point in enumerate(points) if point is dynamic.policy)
    shown = [_numbers(point, list(dynamic.exits)) for point in points]
    data = {"policy": start, "points": shown}
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td id="slider-{number}">{escape(text)}</td></tr>'
        for number, (name, text) in enumerate(shown[start]["texts"])
    )
    return (
        f'<div class="slider"><label for="slider">Thresholds of {escape(dynamic.policy.score)}, from few MACs to many'
        f'</label><input type="range" id="slider" min="0" max="{len(points) - 1}" value="{start}">'
        '<button type="button" id="slider-reset">Back to the policy</button>'
        f'<p id="slider-kind">This is the policy.</p><table><tbody>{rows}</tbody></table></div>'
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
        f"There is no slider: {stored}, and the policy has score {dynamic.policy.score}. To see another cost with its "
        "own promise, calibrate a policy with another limit."
    )


def _numbers(point: CurvePoint, exits: list[str]) -> dict[str, Any]:
    shares = zip(exits, point.exit_fractions, strict=True)
    texts = [
        ("thresholds", thresholds_text(point.thresholds)),
        ("cost", f"{percent(point.macs_share)} of the full model's MACs"),
        ("accuracy", in_percent(point.accuracy, point.accuracy_error)),
        ("jets leave at", ", ".join(f"{exit_title(name)} {percent(share)}" for name, share in shares)),
        *((_cut(one), rejection_text(one)) for one in point.rejections),
    ]
    return {"share": point.macs_share, "accuracy": point.accuracy, "texts": texts}


def _cut(one: Rejection) -> str:
    signal, background = class_title(one.signal), class_title(one.background)
    return f"{background} rejection at {100 * one.signal_efficiency:g} % {signal}"
