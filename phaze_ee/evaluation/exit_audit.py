"""Does leaving early depend on what a jet looks like?"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float
from scipy.stats import chi2_contingency
from scipy.stats.contingency import association

from phaze_ee.dynamic_results import ExitRates
from phaze_ee.evaluation.operating_point import ExitIndex
from phaze_ee.types import Predictions

MASS = "jet_sdmass"
MULTIPLICITY = "jet_nparticles"
OBSERVABLES = ("jet_pt", "jet_eta", MULTIPLICITY, MASS)
_BINS = 10
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
    bins = min(_BINS, len(value_N) // _JETS_PER_BIN)
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
        association=float(association(used_EB, method="cramer")) if len(used_EB) > 1 else 0.0,
        p_value=float(chi2_contingency(used_EB).pvalue),
    )


def bin_index(value_N: Values, edges: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the bin of each value; bins are open above but for the last, and what lies outside is in the outermost."""
    return np.clip(np.searchsorted(edges, value_N, side="right") - 1, 0, len(edges) - 2)
