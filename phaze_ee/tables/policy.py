"""Tables of exit policies: calibrated, and judged on other jets."""

import math
from collections.abc import Sequence

from rich.table import Table

from phaze_ee.exits.plan import PlannedSize
from phaze_ee.exits.policy_file import ExitPolicyFile
from phaze_ee.names import FULL_MODEL, class_title, exit_title, shares_title
from phaze_ee.results.policy import DynamicResults, MassShape, OperatingPoint, RealisedFigures, RealisedRisk
from phaze_ee.tables.evaluation import rejection_table
from phaze_ee.tables.style import (
    MOST_ROWS,
    OWN_PARTICLES,
    add_caption,
    empty_table,
    few,
    in_percent,
    millions,
    with_error,
)

_MOST_RISKS = 4  # that are told one by one
_FIGURES = 3  # rows of calibrated_policy_table after the exits


def dynamic_tables(dynamic: DynamicResults) -> list[Table]:
    """Return all tables of a judged policy that apply to it."""
    tables = [policy_table(dynamic), risk_table(dynamic), behaviour_table(dynamic), class_table(dynamic)]
    if dynamic.policy.rejections:
        columns = {"full model": dynamic.exits[FULL_MODEL].all_leave.rejections, "policy": dynamic.policy.rejections}
        tables.append(rejection_table(columns))
    tables += [curve_table(dynamic)] if dynamic.curves else []
    tables += [audit_table(dynamic)] if dynamic.exit_rates else []
    return [*tables, mass_table(dynamic)] if dynamic.mass is not None else tables


def policy_table(dynamic: DynamicResults) -> Table:
    """Return cost and accuracy of the policy, of each exit, of the full model and of the bounds."""
    table = empty_table(
        f"{dynamic.project}: policy of score {dynamic.policy.score}, {dynamic.jets:,} jets",
        ["MACs [M]", "of full", "accuracy"],
        first="jets leave",
    )
    add_caption(table, OWN_PARTICLES)
    rows: dict[str, OperatingPoint] = {
        **{f"all at {exit_title(name)}": exit_.all_leave for name, exit_ in dynamic.exits.items()},
        "by the policy": dynamic.policy,
        "at the first right exit (oracle)": dynamic.bounds.oracle,
        "at the first that agrees with full": dynamic.bounds.label_free_oracle,
    }
    for name, point in rows.items():
        table.add_row(
            name,
            millions(point.mean_macs),
            f"{100 * point.macs_share:.2f} %",
            with_error(point.accuracy, point.accuracy_error),
            style="bold" if point is dynamic.policy else None,
        )
    return table


def risk_table(dynamic: DynamicResults) -> Table:
    """Return the risks of leaving early on the test jets, and the limits of the target."""
    policy = dynamic.policy
    table = empty_table(policy.target, ["on these jets", "allowed"], first="against the full model")
    for risk in few(policy.risks):
        if risk is None:
            table.add_row("…")
            continue
        rate = f"{with_error(risk.rate.value, risk.rate.error)} of {risk.rate.jets:,}"
        table.add_row(_short_name(risk.name, policy.risks[0].name), rate, f"{risk.epsilon:.4g}")
    table.add_row("accuracy lost", with_error(policy.accuracy_drop, policy.accuracy_drop_error), "")
    table.add_row("other class", with_error(policy.disagreement.value, policy.disagreement.error), "")
    over = dynamic.bounds.overthinking
    table.add_row("early right, full model wrong", with_error(over.value, over.error), "")
    return table


def behaviour_table(dynamic: DynamicResults) -> Table:
    """Return calibration errors of exits and policy, and how well exits detect their own errors."""
    table = empty_table(
        "Calibration error (ECE) with temperatures, and what exits know of themselves",
        ["leave", "ECE all", "ECE leaving", "failure AUROC", "next differs"],
    )
    for index, (name, exit_) in enumerate(dynamic.exits.items()):
        change = exit_.change_of_mind
        table.add_row(
            exit_title(name),
            f"{100 * dynamic.policy.exit_fractions[index]:.1f} %",
            f"{exit_.expected_calibration_error:.4f}",
            "-" if exit_.leaving_calibration_error is None else f"{exit_.leaving_calibration_error:.4f}",
            "-" if exit_.failure_auroc is None else f"{exit_.failure_auroc:.4f}",
            "-" if change is None else with_error(change.value, change.error),
        )
    table.add_row("mixture", "", f"{dynamic.policy.expected_calibration_error:.4f}", "", "", "")
    return table


def class_table(dynamic: DynamicResults) -> Table:
    """Return the shares of each class that leave at each exit."""
    table = empty_table("Where the jets of a class leave", ["jets", *map(exit_title, dynamic.exits)], first="class")
    for name, counts in dynamic.policy.exits_per_class.items():
        jets = sum(counts)
        table.add_row(
            class_title(name), f"{jets:,}", *(f"{100 * count / jets:.1f} %" if jets else "-" for count in counts)
        )
    return table


def curve_table(dynamic: DynamicResults) -> Table:
    """Return the area under the cost-accuracy curve of each score, and its cheapest point near full accuracy."""
    table = empty_table(
        "Cost-accuracy curves: area, least share of MACs within 1 % of full accuracy",
        ["area", "MACs of full", "accuracy"],
        first="score",
    )
    full = dynamic.exits[FULL_MODEL].all_leave
    for curve in dynamic.curves:
        near = [point for point in curve.points if point.accuracy >= full.accuracy - 0.01]
        best = min((*near, full), key=lambda point: point.macs_share)
        table.add_row(
            curve.score,
            "-" if curve.area is None else f"{curve.area:.4f}",
            "full model" if best is full else f"{100 * best.macs_share:.1f} %",
            with_error(best.accuracy, best.accuracy_error),
        )
    return table


def audit_table(dynamic: DynamicResults) -> Table:
    """Return how strongly the exit depends on each observable, and the share of jets that need the full model."""
    table = empty_table(
        "Does the exit depend on it? Cramér's V, χ² test, share of the full model",
        ["V", "p-value", "in lowest bin", "highest"],
        first="observable, jets",
    )
    for rates in dynamic.exit_rates:
        table.add_row(
            f"{rates.observable}, {class_title(rates.sample)}",
            f"{rates.association:.3f}",
            f"{rates.p_value:.2g}",
            with_error(rates.rates[-1][0], rates.errors[-1][0]),
            with_error(rates.rates[-1][-1], rates.errors[-1][-1]),
        )
    return table


def mass_table(dynamic: DynamicResults) -> Table:
    """Return how far the cut shapes the background's mass, with and without early exits; needs a mass audit."""
    mass = dynamic.mass
    assert mass is not None
    table = empty_table(
        f"{class_title(mass.background)} mass after the cut for {100 * mass.signal_efficiency:g} % of "
        f"{class_title(mass.signal)}, against no cut",
        ["jets", "JSD", "random", "95 % below", "p-value"],
        first="tagger",
    )
    for name, shape in (("full model", mass.full_model), ("leaving early", mass.mixture)):
        table.add_row(name, f"{shape.jets:,}", *_divergence(shape))
    add_caption(table, f"JSD: Jensen-Shannon divergence (base 2, {len(mass.uncut_counts)} bins)")
    return table


def _divergence(shape: MassShape) -> list[str]:
    values = (shape.divergence, shape.floor, shape.floor_95, shape.p_value)
    return ["-" if value is None else f"{value:.4f}" for value in values]


def realised_lines(dynamic: DynamicResults) -> list[str]:
    """Return one line per risk of the target: its rate on the test jets, and whether it is within the promise.

    Of more than four risks, only those that exceed the promise have a line, and the last line counts the others.
    """
    risks = dynamic.policy.risks
    if len(risks) <= _MOST_RISKS:
        return [_realised_line(risk) for risk in risks]
    exceeded = [risk for risk in risks if risk.rate.value > risk.epsilon]
    kept = f"promise kept on these jets: {len(risks) - len(exceeded)} of {len(risks)} risks; --details shows all"
    return [*map(_realised_line, exceeded), kept]


def _realised_line(risk: RealisedRisk) -> str:
    rate, limit = risk.rate, risk.epsilon
    excess = (rate.value - limit) / rate.error if rate.error else 0.0
    verdict = "promise kept" if rate.value <= limit else f"promise exceeded by {excess:.1f} standard errors"
    counted = f"{with_error(rate.value, rate.error)} of {rate.jets:,} jets"
    return f"{verdict} on these jets: {risk.name} {counted}, allowed {limit:.3g}"


def tested_line(file: ExitPolicyFile) -> str:
    """Return what the test of a promise counted. Of more than four risks, the one with the highest limit is named."""
    risks = file.guarantee.risks
    shown = risks if len(risks) <= _MOST_RISKS else [max(risks, key=lambda risk: risk.upper_limit / risk.epsilon)]
    tested = "; ".join(
        f"{risk.name}: {risk.lost:,} of {risk.jets:,} jets, at most {risk.upper_limit:.3g}" for risk in shown
    )
    more = f"; {len(risks) - 1} other risks are lower, --details shows them" if len(shown) < len(risks) else ""
    return f"Tested: {tested}{more}"


def untested_lines(file: ExitPolicyFile) -> list[str]:
    """Return one line per part of the jets that had too few for a test, with what it would take; at most 12."""
    lines = []
    for part in few(file.guarantee.untested):
        if part is None:
            lines.append("…")
            continue
        more = "" if part.more_jets is None else f", which takes about {part.more_jets:,} more calibration jets"
        lines.append(f"Not promised: {part.name}: {part.jets:,} jets test it and {part.needed:,} would do{more}")
    return lines


def calibrated_risk_table(file: ExitPolicyFile) -> Table:
    """Return the tested risks with limit, observed rate and upper limit."""
    confidence = f"{1 - file.guarantee.delta:.4g}"
    columns = ["allowed", "lost", "of jets", "observed", f"limit at {confidence}"]
    table = empty_table(f"{file.project}: {file.target.name}, score {file.score.name}", columns, first="risk")
    for risk in few(file.guarantee.risks):
        if risk is None:
            table.add_row("…")
            continue
        values = (f"{value:.3g}" for value in (risk.epsilon, risk.rate, risk.upper_limit))
        allowed, rate, limit = values
        table.add_row(
            _short_name(risk.name, file.guarantee.risks[0].name),
            allowed,
            f"{risk.lost:,}",
            f"{risk.jets:,}",
            rate,
            limit,
        )
    return table


def calibrated_policy_table(file: ExitPolicyFile) -> Table:
    """Return where jets leave and what it costs, for each class prior; at most 12 rows."""
    title = f"{file.project}: {file.target.name}, score {file.score.name}, {file.calibration.testing:,} jets"
    table = empty_table(title, ["threshold", *(f"share, {_mix(figures)}" for figures in file.realised.values())])
    for row in few(list(enumerate(file.exit_names)), MOST_ROWS - _FIGURES):
        if row is None:
            table.add_row("…")
            continue
        index, name = row
        threshold = f"{file.thresholds[index]:.4g}" if index < len(file.thresholds) else "the rest"
        shares = (f"{100 * figures.exit_shares[name]:.2f} %" for figures in file.realised.values())
        table.add_row(exit_title(name), threshold, *shares)
    table.add_row("cost of full", "", *(_share(figures) for figures in file.realised.values()))
    table.add_row("accuracy", "", *(_accuracy(figures) for figures in file.realised.values()))
    table.add_row("full model's", "", *(_full_accuracy(figures) for figures in file.realised.values()))
    add_caption(table, OWN_PARTICLES)
    jets = file.calibration
    same = jets.testing + jets.shaping > jets.jets  # of a budget
    chosen = "the same jets chose it" if same else f"{jets.shaping:,} others chose it"
    add_caption(table, f"{jets.testing:,} jets test the policy; {chosen}")
    if math.inf in file.thresholds:
        add_caption(table, "threshold inf: no jet leaves there")
    return table


def _short_name(name: str, first: str) -> str:
    """Return the name of a risk in a part of the jets without that of the first risk, which is the one of all jets."""
    return name.removeprefix(f"{first}, ")


def _mix(figures: RealisedFigures) -> str:
    """Return in a few words in which shares the classes come."""
    return shares_title(figures.class_shares, most=1) if figures.class_shares else "files' mix"


def _share(figures: RealisedFigures) -> str:
    return in_percent(figures.cost_share, figures.cost_share_error)


def _accuracy(figures: RealisedFigures) -> str:
    if figures.accuracy is None or figures.accuracy_error is None:
        return "not read"
    return with_error(figures.accuracy, figures.accuracy_error)


def _full_accuracy(figures: RealisedFigures) -> str:
    return "not read" if figures.full_accuracy is None else f"{figures.full_accuracy:.4f}"


def plan_table(title: str, sizes: Sequence[PlannedSize], *, divided: bool) -> Table:
    """Return what each number of calibration jets is expected to give; ``divided``: in parts of the jets as well."""
    columns = ["a policy passes", "cost of full", *(["parts tested"] if divided else [])]
    table = empty_table(title, columns, first="calibration jets")
    for size in sizes:
        parts = [str(size.parts)] if divided else []
        table.add_row(f"{size.jets:,}", f"{100 * size.promised:.0f} %", f"{100 * size.cost:.1f} %", *parts)
    add_caption(table, "cost of full: mean; that of the full model where no policy passes")
    return table
