"""The table, notes and drift warnings of mode predict."""

import math
from collections.abc import Sequence
from functools import reduce
from operator import add
from pathlib import Path

from rich.table import Table

from phaze_ee.data.bad_values import said
from phaze_ee.engine.audit import AuditReport
from phaze_ee.engine.event_budget import BudgetReport
from phaze_ee.exits.drift import ANSWER
from phaze_ee.exits.observables import MULTIPLICITY
from phaze_ee.names import exit_title, quantity
from phaze_ee.prediction.drift_report import DriftReport, DriftTest
from phaze_ee.prediction.outputs import FileJob
from phaze_ee.prediction.writers import Manifest
from phaze_ee.tables.style import OWN_PARTICLES, add_caption, empty_table, in_percent

_FEW = 10  # found jets, whose standard error says too little


def prediction_table(earlier: Sequence[Manifest], made: Sequence[Manifest], seconds: float) -> Table:
    """Return where the jets of all files left, and the cost.

    Args:
        earlier: of files that were predicted before.
        made: of files that were predicted now; the rate refers to these.
        seconds: how long these took.
    """
    manifests = [*earlier, *made]
    jets = sum(manifest.jets for manifest in manifests)
    rate = f", {sum(manifest.rows for manifest in made) / seconds:,.0f} jets/s" if made else ""
    table = empty_table(
        f"{quantity(jets, 'jet')} in {quantity(len(manifests), 'file')}{rate}", ["jets", "share"], first="leave at"
    )
    for name in manifests[0].exits:
        count = sum(manifest.exits[name] for manifest in manifests)
        table.add_row(exit_title(name), f"{count:,}", f"{100 * count / max(1, jets):.2f} %")
    spent, full = (sum(getattr(manifest, name) for manifest in manifests) for name in ("macs", "full_macs"))
    table.add_row("cost of full", "", f"{100 * spent / max(1, full):.2f} %")
    reports = [manifest.budget for manifest in manifests if manifest.budget is not None]
    if reports:
        _add_events(table, reports)
    audits = [manifest.audit for manifest in manifests if manifest.audit is not None]
    if audits:
        _add_audit(table, reduce(add, audits), full)
    add_caption(table, OWN_PARTICLES)
    if made:
        add_caption(table, "jets/s: all the time that the files took, with reading and writing")
    return table


def _add_events(table: Table, reports: Sequence[BudgetReport]) -> None:
    total = reduce(add, reports)
    table.add_section()
    table.add_row("events", f"{total.events:,}", "")
    for text, count in (("cut short", total.cut), ("over budget", total.exceeded)):
        share = count / max(1, total.events)
        error = (share * (1 - share) / max(1, total.events)) ** 0.5
        table.add_row(text, f"{count:,}", in_percent(share, error))


def _add_audit(table: Table, report: AuditReport, full_macs: int) -> None:
    """Add the audit: its size, its cost, which is part of that above, and its estimate of what the exits change."""
    table.add_section()
    table.add_row("audited", f"{report.audited:,}", f"{100 * report.audited / max(1, report.left):.2f} % of early jets")
    table.add_row("of the cost", "", f"{100 * report.macs / max(1, full_macs):.2f} %")
    share = in_percent(report.share, report.share_error) if report.found else "none found"
    table.add_row("other class", f"{report.found:,}", share)
    if 0 < report.found < _FEW:
        low, high = _poisson_limits(report.found)
        add_caption(table, f"few of another class: the truth may be {low:.2g} to {high:.2g} times that (95 %)")


def _poisson_limits(found: int) -> tuple[float, float]:
    """Return the limits of a Poisson mean at 95 %, as shares of what was found (Garwood, Biometrika 28 (1936) 437)."""
    from scipy.special import gammaincinv

    return float(gammaincinv(found, 0.025)) / found, float(gammaincinv(found + 1, 0.975)) / found


def prediction_notes(
    jobs: Sequence[FileJob], earlier: Sequence[Manifest], made: Sequence[Manifest], before_move: int = 0
) -> list[str]:
    """Return notes on files that were already predicted, are empty, have no labels, or have been renamed.

    Args:
        jobs: all files.
        earlier: the manifests of those that were already predicted.
        made: the manifests of the others.
        before_move: how many of the earlier ones a faster policy predicted, before the policy moved.
    """
    manifests = [*earlier, *made]
    files = quantity(len(jobs), "file")
    same = len(earlier) - before_move
    empty = sum(not manifest.rows for manifest in manifests)
    without = sum(manifest.empty for manifest in manifests)
    unlabelled = sum(not manifest.labelled for manifest in manifests)
    unclassified = sum(manifest.unclassified for manifest in manifests)
    renamed = [job for job in jobs if job.output.stem != job.source.stem]
    returned = sum(manifest.budget.returned for manifest in manifests if manifest.budget is not None)
    rejected = sum(manifest.rows - manifest.jets for manifest in manifests)
    notes = [
        (same, f"predicted already, by the same model and policy: {same} of {files}"),
        (before_move, f"predicted already, before the policy moved to safer thresholds: {before_move} of {files}"),
        (empty, f"without any jets, and so their predictions: {empty} of {files}"),
        (unlabelled, f"without all label columns, and so their predictions have none: {unlabelled} of {files}"),
        (unclassified, f"of no class, or of several: {quantity(unclassified, 'jet')}; their labels are all false"),
        (without, f"without particles: {quantity(without, 'jet')}; each gets the answer of the tagger for none"),
        (rejected, f"cut away by the selection: {quantity(rejected, 'jet')}; 'entry' tells the row of the others"),
        (
            returned,
            f"{quantity(returned, 'event')} with the number of an earlier one that does not come just before: as other "
            "events they have a budget of their own, so put the jets of an event in a row if they are the same",
        ),
        (len(renamed), _renamed(renamed)),
        (any(manifest.bad for manifest in manifests), said(manifest.bad for manifest in manifests)),
    ]
    return [text for count, text in notes if count]


def _renamed(jobs: Sequence[FileJob]) -> str:
    if not jobs:
        return ""
    source = Path(*jobs[0].source.parts[-2:])
    files = quantity(len(jobs), "file")
    return f"as others have the same name, outputs of {files} carry more of the path: {source} → {jobs[0].output.name}"


def drift_lines(report: DriftReport, new_files: int) -> list[str]:
    """Return the result of the drift tests, with one line per alarm.

    Args:
        report: of all files so far.
        new_files: how many of them are new.
    """
    sample = f"{report.jets:,} jets against {report.reference_jets:,} of the calibration"
    looks = f"{quantity(len(report.files), 'file')}, {new_files:,} new"
    level = (
        f"the {len(report.tests)} tests give a false alarm, at any number of looks, with a probability of at most "
        f"{report.significance:g}"
    )
    lines = [f"Drift:  no alarm: {sample} ({looks}); {level}"]
    if report.alarms:
        lines = [
            "WARNING: these jets differ from the calibration jets, so the policy's promise may not hold: "
            f"{sample} ({looks}); {level}"
        ]
        lines += [f"  {_alarm(test)}" for test in report.alarms]
        if report.only_class_prior:
            lines.append("  jets with the same answer leave as before: perhaps only the shares of the classes changed")
        elif any(test.name == ANSWER for test in report.alarms):
            lines.append("  the answers changed too: other shares of the classes also raise these alarms")
    untested = report.observed.untested
    if MULTIPLICITY in untested:
        lines.append("Not tested: the inputs; the policy is of an earlier version, and calibrate adds them")
    elif untested:
        lines.append(f"Not tested: {', '.join(untested)}; the data configuration has no four-momenta")
    return lines


def _alarm(test: DriftTest) -> str:
    least = -math.log10(test.share)
    return f"{test.name}: e-value 10^{test.largest:.1f}, alarm from 10^{least:.1f}; {test.change}"
