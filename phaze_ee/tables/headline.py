"""What a project with a promise on a signal has reached, in one table and one sentence."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from rich.table import Table

from phaze_ee.names import class_title, quantity, shares_title
from phaze_ee.results.benchmark import LatencyReport
from phaze_ee.results.policy import RealisedFigures, RealisedRisk
from phaze_ee.results.project import ProjectResults
from phaze_ee.tables.style import OWN_PARTICLES, add_caption, empty_table, in_percent, millions, with_error


@dataclass(frozen=True)
class Headline:
    """The figures of the headline: of a policy on test jets, for a class prior.

    Attributes:
        signal: the class whose efficiency is promised.
        efficiency: of the full model for this class.
        prior: cost for the class prior.
        risk: how much of the kept signal is lost, with the limit that was promised.
        latency: times of full model and policy.
    """

    signal: str
    efficiency: float
    prior: RealisedFigures
    risk: RealisedRisk
    latency: LatencyReport

    @classmethod
    def of(cls, results: ProjectResults, target: Mapping[str, Any]) -> Self | None:
        """Return the figures of a project whose policy has this target; None if one of them is missing."""
        dynamic, latency = results.dynamic, results.benchmark.latency
        if target["name"] != "signal_efficiency" or dynamic is None or latency is None or not latency.chosen:
            return None
        if dynamic.prior is None or not dynamic.policy.risks:
            return None
        return cls(target["signal"], target["efficiency"], dynamic.prior, dynamic.policy.risks[0], latency)


def headline_table(headline: Headline) -> Table:
    """Return cost, speed and lost signal of the full model and of the policy."""
    prior, signal, rate = headline.prior, class_title(headline.signal), headline.risk.rate
    table = empty_table(
        f"{signal} at {100 * headline.efficiency:g} % efficiency; jets: {shares_title(prior.class_shares or {})}",
        ["full model", "with early exits"],
        first="",
    )
    assert headline.latency.pair is not None
    assert headline.latency.gain is not None
    timed, timed_full = headline.latency.pair
    gain = headline.latency.gain
    table.add_row("million MACs a jet", millions(prior.full_macs), millions(prior.macs))
    table.add_row("  of the full model", "100 %", in_percent(prior.cost_share, prior.cost_share_error))
    rates = (f"{entry.jets_per_second:,.0f}" for entry in (timed_full, timed))
    table.add_row(f"jets/s, measured, {quantity(headline.latency.threads, 'thread')}", *rates)
    table.add_row("  of the full model", "1 ×", f"{with_error(gain.speed, gain.speed_error)} ×", style="bold")
    table.add_row(f"{signal} of the full model lost", "0 %", in_percent(rate.value, rate.error))
    add_caption(table, "On test jets, which nothing else used, with standard errors")
    add_caption(table, OWN_PARTICLES)
    return table


def headline_sentence(headline: Headline, confidence: float) -> str:
    """Return the promise, and what became of it on the test jets, as one sentence."""
    rate, limit = headline.risk.rate, headline.risk.epsilon
    verdict = "kept" if rate.value <= limit else "exceeded"
    return (
        f"Promise {verdict}: of the {rate.jets:,} {class_title(headline.signal)} test jets that the full model keeps, "
        f"{in_percent(rate.value, rate.error)} are lost; promised: at most {100 * limit:g} %, with confidence "
        f"{confidence:g}"
    )
