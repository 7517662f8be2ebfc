"""Jets: anti-kT clustering, the kinematic window of JetClass, soft drop and N-subjettiness."""

from dataclasses import dataclass

import awkward
import fastjet
import numpy as np

from phaze_ee.generate.columns import Columns, Floats, Integers, sum_by
from phaze_ee.generate.detector import Candidates

# The banner would break the progress bar; the README asks users to cite FastJet (arXiv:1111.6097).
fastjet._swig.ClusterSequence.set_fastjet_banner_stream(None)

RADIUS = 0.8
MINIMUM_PT, MAXIMUM_PT = 500.0, 1000.0
MAXIMUM_ETA = 2.0
_ANTI_KT = fastjet.JetDefinition(fastjet.antikt_algorithm, RADIUS)
# Soft drop declusters a Cambridge/Aachen tree of all constituents.
_CAMBRIDGE = fastjet.JetDefinition(fastjet.cambridge_algorithm, 1000.0)


@dataclass(frozen=True)
class Jets(Columns):
    """Jets in the window 500 < pt < 1000 GeV, |eta| < 2; momenta in GeV."""

    event: Integers
    pt: Floats
    eta: Floats
    phi: Floats
    energy: Floats


@dataclass(frozen=True)
class Substructure(Columns):
    """Soft-drop mass (GeV) and tau_1 to tau_4, shape (jets, 4)."""

    soft_drop_mass: Floats
    tau: Floats


def cluster(candidates: Candidates, events: int) -> tuple[Jets, Candidates, Integers]:
    """Cluster each event with anti-kT, R = 0.8.

    Args:
        candidates: sorted by event.
        events: number of events; each must have a candidate.

    Returns:
        The jets in the window; their constituents, by jet and falling pt; the number of constituents of each jet.
    """
    counts = np.bincount(candidates.event, minlength=events)
    momenta = candidates.momentum(candidates.eta)
    indices = fastjet.ClusterSequence(_unflatten(momenta, counts), _ANTI_KT).constituent_index(min_pt=MINIMUM_PT)
    jets_per_event = awkward.to_numpy(awkward.num(indices))
    event = np.repeat(np.arange(events), jets_per_event)
    sizes = awkward.to_numpy(awkward.num(awkward.flatten(indices)))
    first = np.cumsum(counts) - counts
    rows = awkward.to_numpy(awkward.flatten(indices, axis=None)) + np.repeat(first[event], sizes)
    jet_of = np.repeat(np.arange(len(sizes)), sizes)

    sums = {name: sum_by(jet_of, values[rows], len(sizes)) for name, values in momenta.items()}
    pt = np.hypot(sums["px"], sums["py"])
    jets = Jets(event, pt, np.arcsinh(sums["pz"] / pt), np.arctan2(sums["py"], sums["px"]), sums["E"])
    wanted = (pt > MINIMUM_PT) & (pt < MAXIMUM_PT) & (np.abs(jets.eta) < MAXIMUM_ETA)
    order = np.lexsort((-candidates.pt[rows], jet_of))
    constituents = candidates[rows[order]]
    return jets[wanted], constituents[wanted[jet_of]], sizes[wanted]


def measure_substructure(constituents: Candidates, sizes: Integers) -> Substructure:
    """Return the substructure of jets, given by their constituents.

    Soft drop has z_cut = 0.1 and beta = 0 (arXiv:1402.2657); N-subjettiness has beta = 1, the normalised measure and
    axes from one pass after exclusive kT (arXiv:1011.2268), as in the JetClass Delphes card.
    """
    momenta = _unflatten(constituents.momentum(constituents.eta), sizes)
    groomed = fastjet.ClusterSequence(momenta, _CAMBRIDGE).exclusive_jets_softdrop_grooming(
        njets=1, beta=0.0, symmetry_cut=0.1, R0=RADIUS
    )
    tau = fastjet.ClusterSequence(momenta, _ANTI_KT).njettiness(
        measure_definition="NormalizedMeasure",
        axes_definition="OnePass_KT_Axes",
        njets=[1, 2, 3, 4],
        beta=1.0,
        R0=RADIUS,
    )
    return Substructure(
        np.asarray(awkward.to_numpy(groomed.msoftdrop), dtype=np.float64),
        np.asarray(awkward.to_numpy(tau), dtype=np.float64),
    )


def _unflatten(momenta: dict[str, Floats], counts: Integers) -> awkward.Array:
    return awkward.unflatten(awkward.zip(momenta), counts)
