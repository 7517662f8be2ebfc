"""What the model card says of the exported policy on test jets."""

import itertools
import math
from collections.abc import Iterator

from phaze_ee.names import class_title, short
from phaze_ee.results.evaluation import Rejection
from phaze_ee.results.policy import DynamicResults, RelativeEfficiency


def judged_lines(judged: DynamicResults | None) -> Iterator[str]:
    """Yield what evaluate found: accuracy, rejections and, in bins, what is kept of the full model's jets."""
    if judged is None:
        return
    full, policy = list(judged.exits.values())[-1].all_leave, judged.policy
    yield f"{judged.jets:,} jets, with standard errors:"
    yield ""
    yield f"- accuracy: {_percent(policy.accuracy, policy.accuracy_error)}; full model:"
    yield f"  {_percent(full.accuracy, full.accuracy_error)}; difference on the same jets:"
    yield f"  {_percent(-policy.accuracy_drop, policy.accuracy_drop_error)}"
    for own, other in zip(policy.rejections, full.rejections, strict=True):
        signal, background = class_title(own.signal), class_title(own.background)
        yield f"- {background} rejection at {100 * own.signal_efficiency:g} % {signal}: {_rejection(own)}"
        yield f"  (full model: {_rejection(other)})"
    for table in judged.efficiencies:
        if table.sample == judged.efficiencies[0].sample:  # the folder efficiency of evaluate has the others
            yield from _efficiency(table)


def _rejection(found: Rejection) -> str:
    if found.value is not None and found.error:
        decimals = max(0, 1 - math.floor(math.log10(found.error)))
        return f"{found.value:.{decimals}f} ± {found.error:.{decimals}f}"
    return "unknown" if found.lower_limit is None else f"above {found.lower_limit:.3g} (68 % confidence)"


def _efficiency(table: RelativeEfficiency) -> Iterator[str]:
    yield ""
    yield f"{class_title(table.sample)} jets that exits keep, of those that the full model keeps ({table.kept}):"
    yield ""
    yield f"| {table.observable} | full model | kept of them |"
    yield "|---|---|---|"
    rows = zip(
        itertools.pairwise(table.edges), table.full_model, table.efficiency, table.lower, table.upper, strict=True
    )
    for (low, high), jets, share, lower, upper in rows:
        kept = "–"
        if share is not None and lower is not None and upper is not None:
            kept = f"{100 * share:.2f} (+{100 * (upper - share):.2f} −{100 * (share - lower):.2f}) %"
        yield f"| {short(low)} to {short(high)} | {jets:,} | {kept} |"


def _percent(share: float, error: float) -> str:
    return f"{100 * share:.2f} ± {100 * error:.2f} %"
