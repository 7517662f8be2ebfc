"""The chapter on physics: where jets leave, rejections, ROC curves, confusion, probabilities, and observables."""

from collections.abc import Iterator, Sequence

from phaze_ee.names import FULL_MODEL, POLICY, class_title, exit_title, observable_title
from phaze_ee.report import charts
from phaze_ee.report.absent import no_background, no_evaluation, no_policy
from phaze_ee.report.content import Content
from phaze_ee.report.markup import (
    bars,
    chapter,
    grid,
    missing,
    paragraph,
    section,
    shares_table,
    table,
)
from phaze_ee.report.slider import rejection_text
from phaze_ee.results.evaluation import ExitEvaluation, Rejection
from phaze_ee.results.policy import DynamicResults, MassAudit, MassShape
from phaze_ee.results.project import ProjectResults
from phaze_ee.tables.style import UNKNOWN, number, with_error


def physics_chapter(content: Content) -> str:
    """Return where jets leave, rejections, ROC curves, confusion, calibration, and the dependence on observables."""
    results = content.results
    parts = [no_evaluation(content)] if results is None else list(_physics(results, content))
    return chapter("physics", "Physics", *parts, _other_jets(content))


def _physics(results: ProjectResults, content: Content) -> Iterator[str]:
    judged, dynamic = results.with_policy, results.dynamic
    yield section("leaving", "Where jets leave", no_policy(content) if dynamic is None else _leaving(dynamic))
    cuts = judged.exits[FULL_MODEL].rejections
    rejection = charts.rejections(dynamic) if dynamic is not None else None
    yield section(
        "rejections",
        "Rejections",
        _rejections(judged.exits, cuts) if cuts else no_background(content),
        _rejection_curve(dynamic, rejection),
    )
    roc = charts.roc_charts(results)
    drawn = paragraph(f"Drawn {charts.ENOUGH}; bands: statistical errors.", "note") + grid(one.html() for one in roc)
    yield section("roc", "ROC curves", drawn if roc else no_background(content))
    yield section("confusion", "Confusion", *(_confusion(results, name) for name in (FULL_MODEL, POLICY)))
    yield section("calibration", "Calibration of probabilities", _calibration(results))
    yield section("audits", "Dependence on observables", no_policy(content) if dynamic is None else _audits(dynamic))


def _leaving(dynamic: DynamicResults) -> str:
    names = list(dynamic.exits)
    colours = [charts.colour(name, index) for index, name in enumerate(names)]
    counts = dynamic.policy.exits_per_class
    shares = {name: [count / max(sum(row), 1) for count in row] for name, row in counts.items()}
    titles = [exit_title(name) for name in names]
    drawn = [
        (class_title(name), list(zip(titles, colours, row, strict=True))) for name, row in shares.items() if any(row)
    ]
    rows = [(class_title(name), *(f"{count:,}" for count in row), f"{sum(row):,}") for name, row in counts.items()]
    note = paragraph("By the policy, on the test jets: share and number of the jets of each true class.", "note")
    return note + bars(drawn) + table(("true class", *titles, "jets"), rows)


def _rejections(exits: dict[str, ExitEvaluation], cuts: Sequence[Rejection]) -> str:
    head = [f"{class_title(cut.signal)}, {100 * cut.signal_efficiency:g}\u00a0%" for cut in cuts]
    rows = [(exit_title(name), *map(rejection_text, exit_.rejections)) for name, exit_ in exits.items()]
    background = class_title(cuts[0].background)
    note = f"1 / (share of {background} jets that pass) at the cut that keeps the share of the signal above the column."
    return paragraph(note, "note") + table(("answer of", *head), rows)


def _rejection_curve(dynamic: DynamicResults | None, drawn: charts.Chart | None) -> str:
    if drawn is not None:
        return drawn.html()
    if dynamic is None or not dynamic.policy.rejections:
        return ""
    why = f"it takes two policies with score {dynamic.policy.score}, {charts.ENOUGH}"
    return paragraph(f"Rejection against cost is not drawn: {why}.", "note")


def _confusion(results: ProjectResults, name: str) -> str:
    exit_ = results.with_policy.exits.get(name)
    if exit_ is None:
        return ""
    titles = [class_title(label) for label in results.evaluation.classes]
    rows = [
        (title, [count / max(sum(row), 1) for count in row])
        for title, row in zip(titles, exit_.confusion_matrix, strict=True)
    ]
    head = ("true class", *(f"as {title}" for title in titles))
    return paragraph(
        f"{exit_title(name).capitalize()}: of the jets of each true class, the share with each answer."
    ) + shares_table(head, rows)


def _calibration(results: ProjectResults) -> str:
    behaviour = {} if results.dynamic is None else results.dynamic.exits
    rows = []
    for name, exit_ in results.evaluation.exits.items():
        found = behaviour.get(name)
        after, leaving, auroc = (
            (None, None, None)
            if found is None
            else (found.expected_calibration_error, found.leaving_calibration_error, found.failure_auroc)
        )
        numbers = (exit_.expected_calibration_error, after, leaving, auroc)
        rows.append((exit_title(name), *(number(value, ".4f") for value in numbers)))
    if results.dynamic is not None:
        policy = results.dynamic.policy.expected_calibration_error
        rows.append((exit_title(POLICY), UNKNOWN, number(policy, ".4f"), UNKNOWN, UNKNOWN))
    head = (
        "answer of",
        "ECE, all jets",
        "ECE after temperature",
        "ECE, jets that leave here",
        "AUROC of right answers",
    )
    note = (
        "ECE: expected calibration error, the mean distance between confidence (the largest class probability) and the "
        "share of right answers. Temperature: the policy divides the logits of an exit by a fitted number. AUROC: how "
        "well the confidence tells right answers from wrong ones, from 0.5 (not at all) to 1. The chart is without "
        "temperatures, except for the policy."
    )
    drawn = charts.reliability(results.with_policy)
    return table(head, rows) + paragraph(note, "note") + ("" if drawn is None else drawn.html())


def _audits(dynamic: DynamicResults) -> str:
    rates = [
        (f"{observable_title(one.observable).replace('$p_T$', 'pT')}, {charts.jets_title(one.sample)}",
         f"{one.association:.3f}", f"{one.p_value:.2g}" if one.p_value else "< 1e-300")
        for one in dynamic.exit_rates
    ]  # fmt: skip
    if not rates and dynamic.mass is None:
        return paragraph("The data configuration has no observers, on which the exits could depend.", "missing")
    note = (
        "Whether the exit depends on an observable, in bins of about equally many jets. Cramér's V: 0 if it does not, "
        "1 if the observable determines it. p-value: of a χ² test that it does not."
    )
    association = paragraph(note, "note") + table(("observable, jets", "Cramér's V", "p-value"), rates) if rates else ""
    drawn = grid(chart.html() for chart in charts.exit_rates(dynamic.exit_rates))
    return association + drawn + ("" if dynamic.mass is None else _mass(dynamic.mass))


def _mass(audit: MassAudit) -> str:
    shapes = (("full model", audit.full_model), ("policy", audit.mixture))
    rows = [(name, f"{shape.jets:,}", *_tested(shape)) for name, shape in shapes]
    few = [name for name, shape in shapes if shape.jets < charts.FEWEST_JETS]
    note = f"Not drawn, since fewer than {charts.FEWEST_JETS} jets pass: {', '.join(few)}." if few else ""
    cut = f"Cut at {100 * audit.signal_efficiency:g} % {class_title(audit.signal)} efficiency."
    head = ("cut on the answers of", "jets that pass", "divergence", "95 % of chance", "p-value")
    meaning = (
        "Divergence: of the mass after the cut from that before it (Jensen-Shannon, base 2, from 0 to 1). 95 % of "
        "chance: 95 % of random samples of as many jets have less."
    )
    return (
        paragraph(f"Does the cut shape the mass of {class_title(audit.background)}? {cut} {note}")
        + table(head, rows)
        + paragraph(meaning, "note")
        + ("" if len(few) == len(shapes) else charts.mass_shapes(audit).html())
    )


def _tested(shape: MassShape) -> tuple[str, str, str]:
    """Return divergence, that of chance and p-value; dashes for a shape of few jets."""
    if shape.jets < charts.FEWEST_JETS:
        return UNKNOWN, UNKNOWN, UNKNOWN
    return number(shape.divergence, ".3f"), number(shape.floor_95, ".3f"), number(shape.p_value, ".2g")


def _other_jets(content: Content) -> str:
    ood = content.ood
    if ood is None:
        return section(
            "ood", "Out-of-distribution jets", missing("Not tried.", f"{content.command('evaluate')} --ood FILES")
        )
    rows = [
        (exit_title(name), score.replace("_", " "), with_error(found.auroc, found.auroc_error))
        for name, scores in ood.exits.items()
        for score, found in scores.items()
    ]
    note = (
        "AUROC: the probability that such a jet has a larger score than a test jet; 0.5: the score does not notice it, "
        "1: it always does."
    )
    return section("ood", "Out-of-distribution jets", table(("exit", "score", "AUROC"), rows), paragraph(note, "note"))
