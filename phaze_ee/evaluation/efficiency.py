"""The efficiency of a policy relative to the full model, in bins of pT and η."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from phaze_ee.evaluation.audits import audited_observables, quantile_edges
from phaze_ee.exits.answers import Answers, ExitIndex, at_exit
from phaze_ee.exits.bounds import upper_bound
from phaze_ee.exits.conditions import observable
from phaze_ee.exits.policy_file import ExitPolicyFile
from phaze_ee.exits.targets import SignalEfficiency
from phaze_ee.names import class_title
from phaze_ee.results.policy import RelativeEfficiency
from phaze_ee.shapes import Bool, Float

_OBSERVABLES = ("jet_pt", "jet_eta")
_TAIL = 0.158655  # of a normal distribution, above one standard deviation


@dataclass(frozen=True)
class _Sample:
    """Jets that the full model keeps, and jets that the policy keeps, of one class or of all."""

    name: str
    kept: str
    full_N: Bool[np.ndarray, " N"]
    policy_N: Bool[np.ndarray, " N"]


def relative_efficiencies(answers: Answers, exit_index_N: ExitIndex, file: ExitPolicyFile) -> list[RelativeEfficiency]:
    """Return which of the jets that the full model keeps the policy keeps, in bins of pT, η and promised observables.

    At a working point a jet is kept if it passes the cut, else if it is assigned its true class. Bins are those of the
    promise, else quantiles of the observable. An observable that the jets do not have is left out.

    Args:
        answers: with the temperatures of the policy; all true classes must be known.
        exit_index_N: where the jets leave.
        file: the policy.
    """
    chosen = file.guarantee.conditions.bins
    known = {name: value_N for name, value_N in audited_observables(answers).items() if name in _OBSERVABLES}
    columns = known | {name: observable(answers, name) for name in chosen}
    edges = {name: np.array(chosen[name]) if name in chosen else _edges(value_N) for name, value_N in columns.items()}
    return [
        _in_bins(sample, name, columns[name], edges[name])
        for sample in _samples(answers, exit_index_N, file)
        for name in columns
        if len(edges[name]) > 1
    ]


def _edges(value_N: Float[np.ndarray, " N"]) -> Float[np.ndarray, " B+1"]:
    edges = quantile_edges(value_N[np.isfinite(value_N)])
    # The largest value belongs to the last bin.
    return np.append(edges[:-1], np.nextafter(edges[-1], np.inf)) if len(edges) else edges


def _samples(answers: Answers, exit_index_N: ExitIndex, file: ExitPolicyFile) -> Iterator[_Sample]:
    logits_NK, full_NK = at_exit(answers.logits_ENK, exit_index_N), answers.logits_ENK[-1]
    target = file.target
    if isinstance(target, SignalEfficiency) and target.cut is not None:
        signal, background = (answers.class_names.index(name) for name in (target.signal, target.background))
        passes = [values[:, signal] - values[:, background] >= target.cut for values in (full_NK, logits_NK)]
        title = class_title(target.signal)
        kept = f"ln(p_{title}/p_{class_title(target.background)}) at least {target.cut:.4g}"
        for name in (target.signal, target.background):
            of_class_N = answers.of_class(name)
            yield _Sample(name, kept, passes[0] & of_class_N, passes[1] & of_class_N)
        return
    right = [values.argmax(axis=1) == answers.label_N for values in (full_NK, logits_NK)]
    yield _Sample("all", "assigned the true class", right[0], right[1])
    for name in answers.class_names:
        of_class_N = answers.of_class(name)
        yield _Sample(name, "assigned the true class", right[0] & of_class_N, right[1] & of_class_N)


def _in_bins(
    sample: _Sample, name: str, value_N: Float[np.ndarray, " N"], edges: Float[np.ndarray, " B+1"]
) -> RelativeEfficiency:
    bin_N = np.searchsorted(edges, value_N, side="right") - 1
    inside_N = (value_N >= edges[0]) & (value_N < edges[-1])

    def count(chosen_N: Bool[np.ndarray, " N"]) -> npt.NDArray[np.int64]:
        return np.bincount(bin_N[chosen_N & inside_N], minlength=len(edges) - 1)

    full_B, both_B = count(sample.full_N), count(sample.full_N & sample.policy_N)
    added_B = count(sample.policy_N & ~sample.full_N)
    pairs = list(zip(both_B.tolist(), full_B.tolist(), strict=True))
    ratio_B = np.divide(both_B + added_B, full_B, out=np.zeros(len(full_B)), where=full_B > 0)
    # All three counts fluctuate: those of both, of the full model alone and of the policy alone.
    errors_B = np.sqrt((1 - ratio_B) ** 2 * both_B + ratio_B**2 * (full_B - both_B) + added_B)
    return RelativeEfficiency(
        sample=sample.name,
        kept=sample.kept,
        observable=name,
        edges=edges.tolist(),
        full_model=full_B.tolist(),
        both=both_B.tolist(),
        added=added_B.tolist(),
        efficiency=[both / full if full else None for both, full in pairs],
        lower=[1 - upper_bound(full - both, full, _TAIL) if full else None for both, full in pairs],
        upper=[upper_bound(both, full, _TAIL) if full else None for both, full in pairs],
        ratio=_over(both_B + added_B, full_B),
        ratio_error=_over(errors_B, full_B),
    )


def _over(upper_B: npt.NDArray[np.generic], lower_B: npt.NDArray[np.int64]) -> list[float | None]:
    pairs = zip(upper_B.tolist(), lower_B.tolist(), strict=True)
    return [upper / lower if lower else None for upper, lower in pairs]
