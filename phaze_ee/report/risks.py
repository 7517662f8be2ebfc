"""Charts of the risks of a promise along the policies that the calibration tested."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from phaze_ee.names import shares_title
from phaze_ee.plots.style import exit_colour
from phaze_ee.report.charts import Axis, Chart, Series, share_axis
from phaze_ee.report.sequence import sequence_cost, tested_sequence
from phaze_ee.results.policy import DynamicResults, RealisedRisk, StepEvaluation

_MOST_CHARTS = 4  # of risks; a promise for many parts of the jets has more
_LIMIT, _TESTED = "#bd1f01", "#717581"


def risk_charts(dynamic: DynamicResults) -> Iterator[Chart]:
    """Yield a chart for each risk of the promise: its rate on the test jets, the tested limit, and the promised one.

    There are at most four: those for all jets, and then those that came nearest to their limits in the calibration. A
    policy without a stored sequence has none.
    """
    steps, axis = tested_sequence(dynamic), share_axis()
    if dynamic.prior is not None:
        axis = replace(axis, title=f"{axis.title}, for {shares_title(dynamic.prior.class_shares or {})}")
    for number, own in enumerate(_nearest(dynamic.policy.risks, steps)[:_MOST_CHARTS] if steps else []):
        rates = [
            (sequence_cost(step), risk.rate.value, risk.rate.error)
            for step in steps
            for risk in step.risks
            if risk.name == own.name
        ]
        tested = [
            (sequence_cost(step), step.upper_limits[own.name], 0.0) for step in steps if own.name in step.upper_limits
        ]
        ends = [(sequence_cost(step), own.epsilon, 0.0) for step in (steps[0], steps[-1])]
        chosen = next(step for step in steps if step.is_policy)
        policy = (sequence_cost(chosen), own.rate.value, own.rate.error)
        title = f"{own.name[:1].upper()}{own.name[1:]}"
        series = (
            Series("on the test jets", exit_colour("exit", 0), rates),
            Series("upper limit from the calibration jets", _TESTED, tested, dashed=True, marked=False),
            Series("promised limit", _LIMIT, ends, dashed=True, marked=False),
            Series("policy", exit_colour("policy", 0), [policy], line=False),
        )
        yield Chart(f"risk-{number}", f"{title} against cost", axis, Axis(title, percent=True), series)


def _nearest(risks: Sequence[RealisedRisk], steps: Sequence[StepEvaluation]) -> list[RealisedRisk]:
    """Return risks for all jets, and then those for parts of the jets, the nearest to its limit first."""
    limits = next(step.upper_limits for step in steps if step.is_policy)
    parts = [risk for risk in risks if "," in risk.name]
    parts.sort(key=lambda risk: -limits.get(risk.name, 0.0) / risk.epsilon)
    return [*(risk for risk in risks if "," not in risk.name), *parts]
