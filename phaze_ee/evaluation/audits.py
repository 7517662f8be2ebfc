"""Whether early exits depend on properties of the jet, and whether they shape the mass of the background."""

from collections.abc import Mapping
from math import ceil
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import from_numpy
from torch.special import entr

from phaze_ee.exits.answers import Answers, ExitIndex
from phaze_ee.names import MULTIPLICITY
from phaze_ee.results.policy import ExitRates, MassAudit, MassShape
from phaze_ee.shapes import Bool, Float, Int
from phaze_ee.stats import chi_square, cramers_v

MASS = "jet_sdmass"
OBSERVABLES = ("jet_pt", "jet_eta", MULTIPLICITY, MASS)
_OBSERVABLE_BINS = 10
_JETS_PER_BIN = 20
_MASS_BINS = 20
LEAST_BACKGROUND = 2 * _MASS_BINS
_SUBSETS = 1_000


class SignalCut(NamedTuple):
    """A cut that keeps a fraction of a signal class against a background."""

    signal: str
    background: str
    signal_efficiency: float


def audited_observables(answers: Answers) -> dict[str, Float[np.ndarray, " N"]]:
    """Return the observables of the audit that the data configuration has among its observers.

    Without an observer for the multiplicity, it is the number of particles that the network saw.
    """
    columns = {MULTIPLICITY: answers.particle_count_N, **answers.observers}
    return {name: columns[name].astype(np.float64) for name in OBSERVABLES if name in columns}


def exit_rates(
    observables: Mapping[str, Float[np.ndarray, " N"]],
    exit_index_N: ExitIndex,
    exit_count: int,
    sample: str,
    chosen_N: Bool[np.ndarray, " N"],
) -> list[ExitRates]:
    """Return the fractions of jets that leave at each exit, in bins of each observable.

    Bins are quantiles of the observable: at most 10, with 20 jets or more if there are enough distinct values. Jets
    with a non-finite value are left out, and so is an observable that then has fewer than two bins.

    Args:
        observables: one value per jet, by the name of the observable.
        exit_index_N: the exit where each jet leaves.
        exit_count: the number of exits, the full model included.
        sample: the name of the chosen jets, for the results.
        chosen_N: which jets count.
    """
    found = []
    for name, value_N in observables.items():
        used_N = chosen_N & np.isfinite(value_N)
        edges = quantile_edges(value_N[used_N])
        if len(edges) > 2:
            found.append(_rates(name, sample, value_N[used_N], exit_index_N[used_N], exit_count, edges))
    return found


def mass_audit(
    answers: Answers, exit_index_N: ExitIndex, mass_N: Float[np.ndarray, " N"], point: SignalCut
) -> MassAudit | None:
    """Compare the mass of background jets that pass the cut with that of all, for the full model and the mixture.

    Mass decorrelation is measured by the Jensen-Shannon divergence, as in ATL-PHYS-PUB-2018-014. Returns None without
    signal jets, or with fewer than 40 background jets of finite mass.
    """
    signal_N = answers.of_class(point.signal)
    background_N = answers.of_class(point.background) & np.isfinite(mass_N)
    if not signal_N.any() or background_N.sum() < LEAST_BACKGROUND:
        return None
    lowest, highest = np.quantile(mass_N[background_N], (0.01, 0.99))
    edges = np.linspace(lowest, highest, _MASS_BINS + 1)
    bin_N = bin_index(mass_N, edges)

    def shape(logits_NK: Float[np.ndarray, "N K"]) -> MassShape:
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


def bin_index(value_N: Float[np.ndarray, " N"], edges: Float[np.ndarray, " B+1"]) -> Int[np.ndarray, " N"]:
    """Return the bin [edge, next edge) of each value; values outside the edges are in the first and last bin."""
    return np.clip(np.searchsorted(edges, value_N, side="right") - 1, 0, len(edges) - 2)


def kept(
    logits_NK: Float[np.ndarray, "N K"],
    class_names: tuple[str, ...],
    signal_N: Bool[np.ndarray, " N"],
    point: SignalCut,
) -> Bool[np.ndarray, " N"]:
    """Return which jets pass the tightest cut on p_s / (p_s + p_b) that keeps the signal efficiency."""
    log_odds_N = logits_NK[:, class_names.index(point.signal)] - logits_NK[:, class_names.index(point.background)]
    signal_log_odds = np.sort(log_odds_N[signal_N])[::-1]
    cut = signal_log_odds[max(1, ceil(point.signal_efficiency * len(signal_log_odds))) - 1]
    passes_N: npt.NDArray[np.bool_] = log_odds_N >= cut
    return passes_N


def mass_shape(bin_N: Int[np.ndarray, " N"], kept_N: Bool[np.ndarray, " N"]) -> MassShape:
    """Return the histogram of the jets that pass, and its divergence from that of all jets.

    The divergence is compared with that of 1,000 random subsets of the same size, drawn without replacement. The
    subsets are the same on every run.
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


def divergences(counts_SB: Int[np.ndarray, "S B"], reference_B: Int[np.ndarray, " B"]) -> Float[np.ndarray, " S"]:
    """Return the Jensen-Shannon divergence (base 2) of each of S histograms from a reference; all must have jets."""
    share_SB = counts_SB / counts_SB.sum(axis=1, keepdims=True)
    reference_share_B = reference_B / reference_B.sum()
    mixed_S = _entropy((share_SB + reference_share_B) / 2)
    found_S: npt.NDArray[np.float64] = mixed_S - (_entropy(share_SB) + _entropy(reference_share_B)) / 2
    return np.maximum(found_S, 0)  # equal histograms may differ by rounding


def quantile_edges(value_N: Float[np.ndarray, " N"]) -> Float[np.ndarray, " B+1"]:
    """Return the edges of at most 10 bins with about equal numbers of values, 20 or more; none with too few."""
    bins = min(_OBSERVABLE_BINS, len(value_N) // _JETS_PER_BIN)
    if bins < 2:
        return np.empty(0)
    # Edges are values that occur. So no bin is empty, even if many jets share a value.
    return np.unique(np.quantile(value_N, np.linspace(0, 1, bins + 1), method="inverted_cdf"))


def _rates(
    name: str,
    sample: str,
    value_N: Float[np.ndarray, " N"],
    exit_index_N: ExitIndex,
    exit_count: int,
    edges: Float[np.ndarray, " B+1"],
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


def _entropy(share_B: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the entropy in bits of shares that add up to 1 along the last axis."""
    bits: npt.NDArray[np.float64] = entr(from_numpy(share_B)).numpy().sum(axis=-1) / np.log(2)
    return bits
