"""What a project with a promise on a signal has reached, in one table and one sentence."""

from dataclasses import dataclass
from typing import Self

from rich.table import Table

from phaze_ee.names import FULL_MODEL, class_title, quantity
from phaze_ee.results.benchmark import LatencyReport
from phaze_ee.results.evaluation import Rejection
from phaze_ee.results.policy import RealisedFigures, RealisedRisk
from phaze_ee.results.project import ProjectResults
from phaze_ee.tables.benchmark import speed_up, timed_pair
from phaze_ee.tables.evaluation import rejection_text
from phaze_ee.tables.style import OWN_PARTICLES, add_caption, empty_table, in_percent, shares_title, with_error


@dataclass(frozen=True)
class Headline:
    """The figures of the headline: of a policy on test jets, for a class prior.

    Attributes:
        prior: cost for the class prior.
        risk: how much of the kept signal is lost, with the limit that was promised.
        rejections: of the background at the efficiency of the target, by the full model and by the policy.
        latency: times of full model and policy.
    """

    prior: RealisedFigures
    risk: RealisedRisk
    rejections: tuple[Rejection, Rejection]
    latency: LatencyReport

    @classmethod
    def of(cls, results: ProjectResults, signal: str) -> Self | None:
        """Return the figures of a project; None if one of them is missing."""
        dynamic, latency = results.dynamic, results.benchmark.latency
        if dynamic is None or dynamic.prior is None or dynamic.mixture is None or not dynamic.policy.risks:
            return None
        if latency is None or not latency.chosen:
            return None
        full = _rejection(results.evaluation.exits[FULL_MODEL].rejections, signal)
        policy = _rejection(dynamic.mixture.rejections, signal)
        if full is None or policy is None:
            return None
        return cls(dynamic.prior, dynamic.policy.risks[0], (full, policy), latency)


def _rejection(rejections: list[Rejection], signal: str) -> Rejection | None:
    return next((rejection for rejection in rejections if rejection.signal == signal), None)


def headline_table(headline: Headline) -> Table:
    """Return cost, speed, rejection and lost signal of the full model and of the policy."""
    prior, full = headline.prior, headline.rejections[0]
    signal, background = class_title(full.signal), class_title(full.background)
    table = empty_table(
        f"{signal} at {100 * full.signal_efficiency:g} % efficiency; jets: {shares_title(prior.class_shares or {})}",
        ["full model", "with early exits"],
        first="",
    )
    timed, timed_full = timed_pair(headline.latency)
    table.add_row("million MACs a jet", f"{prior.full_macs / 1e6:.3f}", f"{prior.macs / 1e6:.3f}")
    table.add_row("  of the full model", "100 %", in_percent(prior.cost_share, prior.cost_share_error))
    rates = (f"{entry.jets_per_second:,.0f}" for entry in (timed_full, timed))
    table.add_row(f"jets/s, measured, {quantity(headline.latency.threads, 'thread')}", *rates)
    table.add_row("  of the full model", "1 ×", f"{with_error(*speed_up(headline.latency))} ×", style="bold")
    table.add_row(f"{background} rejection", *map(rejection_text, headline.rejections))
    rate = headline.risk.rate
    table.add_row(f"{signal} of the full model lost", "", in_percent(rate.value, rate.error))
    add_caption(table, "On test jets, which nothing else used, with standard errors")
    add_caption(table, OWN_PARTICLES)
    return table


def headline_sentence(headline: Headline, statement: str) -> str:
    """Return the promise, and what became of it on the test jets, as one sentence."""
    rate, limit = headline.risk.rate, headline.risk.epsilon
    verdict = "kept" if rate.value <= limit else "exceeded"
    return (
        f"Promise {verdict}: {statement}; found on {rate.jets:,} such test jets: "
        f"{in_percent(rate.value, rate.error)} lost."
    )
