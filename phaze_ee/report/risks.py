"""Charts of the risks of a promise along the policies that the calibration tested."""

from collections.abc import Iterator

from phaze_ee.plots.style import exit_colour
from phaze_ee.report.charts import Axis, Chart, Series, share_axis
from phaze_ee.report.sequence import tested_sequence
from phaze_ee.results.policy import DynamicResults

_MOST_CHARTS = 4  # of risks; a promise for many parts of the jets has more
_LIMIT, _TESTED = "#bd1f01", "#717581"


def risk_charts(dynamic: DynamicResults) -> Iterator[Chart]:
    """Yield a chart for each risk of the promise: its rate on the test jets, the tested limit, and the promised one.

    There are at most four, the first of which are for all jets. A policy without a stored sequence has none.
    """
    steps = tested_sequence(dynamic)
    for number, own in enumerate(dynamic.policy.risks[:_MOST_CHARTS] if steps else []):
        rates = [
            (step.macs_share, risk.rate.value, risk.rate.error)
            for step in steps
            for risk in step.risks
            if risk.name == own.name
        ]
        tested = [
            (step.macs_share, step.upper_limits[own.name], 0.0) for step in steps if own.name in step.upper_limits
        ]
        ends = [(x, own.epsilon, 0.0) for x in (steps[0].macs_share, steps[-1].macs_share)]
        policy = (dynamic.policy.macs_share, own.rate.value, own.rate.error)
        title = f"{own.name[:1].upper()}{own.name[1:]}".replace("_", " ")
        series = (
            Series("on the test jets", exit_colour("exit", 0), rates),
            Series("upper limit from the calibration jets", _TESTED, tested, dashed=True, marked=False),
            Series("promised limit", _LIMIT, ends, dashed=True, marked=False),
            Series("policy", exit_colour("policy", 0), [policy], line=False),
        )
        yield Chart(f"risk-{number}", f"{title} against cost", share_axis(), Axis(title, percent=True), series)
