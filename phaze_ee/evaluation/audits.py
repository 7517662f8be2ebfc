"""Does leaving early depend on what a jet looks like?"""

from collections.abc import Mapping
from math import ceil
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float
from scipy.special import entr

from phaze_ee.evaluation.operating_point import Answers, ExitIndex
from phaze_ee.results.policy import ExitRates, MassAudit, MassShape
from phaze_ee.stats import chi_square, cramers_v
from phaze_ee.types import Predictions

MASS = "jet_sdmass"
MULTIPLICITY = "jet_nparticles"
OBSERVABLES = ("jet_pt", "jet_eta", MULTIPLICITY, MASS)
_OBSERVABLE_BINS = 10
_JETS_PER_BIN = 20

Values = Float[npt.NDArray[np.float64], " N"]
Chosen = Bool[npt.NDArray[np.bool_], " N"]


def audited_observables(predictions: Predictions) -> dict[str, Values]:
    """Return what the audit looks at, as far as the data configuration has it among its observers.

    Without an observer for the multiplicity, the particles that the network saw are counted.
    """
    columns = {MULTIPLICITY: predictions.particle_count_N, **predictions.observers}
    return {name: columns[name].astype(np.float64) for name in OBSERVABLES if name in columns}


def exit_rates(
    observables: Mapping[str, Values], exit_index_N: ExitIndex, exit_count: int, sample: str, chosen_N: Chosen
) -> list[ExitRates]:
    """Return how often the jets of a sample leave at each exit, against each observable.

    Bins are quantiles of the observable: at most 10, of 20 jets or more as far as its values can be told apart. Jets
    whose value is not finite are left out; an observable that then has fewer than two bins is left out itself.
    """
    found = []
    for name, value_N in observables.items():
        used_N = chosen_N & np.isfinite(value_N)
        edges = _quantile_edges(value_N[used_N])
        if len(edges) > 2:
            found.append(_rates(name, sample, value_N[used_N], exit_index_N[used_N], exit_count, edges))
    return found


def _quantile_edges(value_N: Values) -> npt.NDArray[np.float64]:
    bins = min(_OBSERVABLE_BINS, len(value_N) // _JETS_PER_BIN)
    if bins < 2:
        return np.empty(0)
    # Edges are values that occur, so that no bin is empty, however many jets share a value.
    return np.unique(np.quantile(value_N, np.linspace(0, 1, bins + 1), method="inverted_cdf"))


def _rates(
    name: str, sample: str, value_N: Values, exit_index_N: ExitIndex, exit_count: int, edges: npt.NDArray[np.float64]
) -> ExitRates:
    bin_N = bin_index(value_N, edges)
    counts_EB = np.zeros((exit_count, len(edges) - 1), dtype=np.int64)
    np.add.at(counts_EB, (exit_index_N, bin_N), 1)
    jets_B = counts_EB.sum(axis=0)
    rate_EB = counts_EB / jets_B
    used_EB = counts_EB[counts_EB.any(axis=1)]
    return ExitRates(
        observable=name,
        sample=sample,
        edges=edges.tolist(),
        centres=[float(np.median(value_N[bin_N == index])) for index in range(len(jets_B))],
        jets=jets_B.tolist(),
        rates=rate_EB.tolist(),
        errors=np.sqrt(rate_EB * (1 - rate_EB) / jets_B).tolist(),
        association=cramers_v(used_EB),
        p_value=chi_square(used_EB, continuity=True).p_value,
    )


def bin_index(value_N: Values, edges: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the bin of each value; bins are open above but for the last, and what lies outside is in the outermost."""
    return np.clip(np.searchsorted(edges, value_N, side="right") - 1, 0, len(edges) - 2)


_MASS_BINS = 20
_SUBSETS = 1_000
_FEWEST_JETS = 2 * _MASS_BINS


class WorkingPoint(NamedTuple):
    """A cut that keeps a fraction of a signal class against a background."""

    signal: str
    background: str
    signal_efficiency: float


def mass_audit(answers: Answers, exit_index_N: ExitIndex, mass_N: Values, point: WorkingPoint) -> MassAudit | None:
    """Compare the background's mass behind the cut with that before it, for the full model and for the mixture.

    Mass decorrelation is measured by the Jensen-Shannon divergence as in ATL-PHYS-PUB-2018-014. None where there are no
    signal jets or fewer than 40 background jets with a finite mass.
    """
    signal_N = answers.label_N == answers.class_names.index(point.signal)
    background_N = (answers.label_N == answers.class_names.index(point.background)) & np.isfinite(mass_N)
    if not signal_N.any() or background_N.sum() < _FEWEST_JETS:
        return None
    lowest, highest = np.quantile(mass_N[background_N], (0.01, 0.99))
    edges = np.linspace(lowest, highest, _MASS_BINS + 1)
    bin_N = bin_index(mass_N, edges)

    def shape(logits_NK: Float[npt.NDArray[np.floating], "N K"]) -> MassShape:
        kept_N = kept(logits_NK, answers.class_names, signal_N, point)
        return mass_shape(bin_N[background_N], kept_N[background_N])

    return MassAudit(
        **point._asdict(),
        observable=MASS,
        edges=edges.tolist(),
        uncut_counts=np.bincount(bin_N[background_N], minlength=_MASS_BINS).tolist(),
        full_model=shape(answers.logits_ENK[-1]),
        mixture=shape(answers.mixture(exit_index_N)),
    )


def kept(
    logits_NK: Float[npt.NDArray[np.floating], "N K"],
    class_names: tuple[str, ...],
    signal_N: Bool[npt.NDArray[np.bool_], " N"],
    point: WorkingPoint,
) -> Bool[npt.NDArray[np.bool_], " N"]:
    """Return which jets pass the tightest cut on p_signal / (p_signal + p_background) that keeps so much signal."""
    log_odds_N = logits_NK[:, class_names.index(point.signal)] - logits_NK[:, class_names.index(point.background)]
    signal_log_odds = np.sort(log_odds_N[signal_N])[::-1]
    cut = signal_log_odds[max(1, ceil(point.signal_efficiency * len(signal_log_odds))) - 1]
    passes_N: npt.NDArray[np.bool_] = log_odds_N >= cut
    return passes_N


def mass_shape(bin_N: npt.NDArray[np.int64], kept_N: Bool[npt.NDArray[np.bool_], " N"]) -> MassShape:
    """Return the counts of the jets that are kept, their divergence from all, and that of random subsets of this size.

    The subsets are drawn without replacement, 1,000 of them, the same on every run.
    """
    uncut, jets = np.bincount(bin_N, minlength=_MASS_BINS), int(kept_N.sum())
    counts = np.bincount(bin_N[kept_N], minlength=_MASS_BINS)
    if jets == 0:
        return MassShape(jets=0, counts=counts.tolist())
    subsets = np.random.default_rng(0).multivariate_hypergeometric(uncut, jets, size=_SUBSETS)
    divergence = float(divergences(counts[None], uncut)[0])
    random_divergences = divergences(subsets, uncut)
    return MassShape(
        jets=jets,
        counts=counts.tolist(),
        divergence=divergence,
        floor=float(random_divergences.mean()),
        floor_95=float(np.quantile(random_divergences, 0.95)),
        p_value=float((1 + (random_divergences >= divergence).sum()) / (1 + _SUBSETS)),
    )


def divergences(counts_SB: npt.NDArray[np.int64], reference_B: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the Jensen-Shannon divergence (base 2) of each of S histograms from a reference; none of them is empty."""
    share_SB = counts_SB / counts_SB.sum(axis=1, keepdims=True)
    reference_share_B = reference_B / reference_B.sum()
    mixed_S = _entropy((share_SB + reference_share_B) / 2)
    found_S: npt.NDArray[np.float64] = mixed_S - (_entropy(share_SB) + _entropy(reference_share_B)) / 2
    return np.maximum(found_S, 0)  # equal histograms may differ by rounding


def _entropy(share_B: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the entropy in bits of shares that add up to 1 along the last axis."""
    bits: npt.NDArray[np.float64] = entr(share_B).sum(axis=-1) / np.log(2)
    return bits
