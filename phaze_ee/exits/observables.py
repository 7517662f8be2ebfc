"""Numbers of the inputs of a jet, which are watched for drift: multiplicity, pT and leading momentum fractions.

They are those of the particles that the network sees: after the cuts and the length of the data configuration.
"""

from typing import TYPE_CHECKING

from phaze_ee.shapes import Float, Int

if TYPE_CHECKING:
    from torch import Tensor

    from phaze_ee.types import Jets, RaggedJets

MULTIPLICITY, JET_PT = "multiplicity", "jet pT"
FRACTIONS = tuple(f"momentum fraction {rank}" for rank in (1, 2, 3))
OBSERVABLES = (MULTIPLICITY, JET_PT, *FRACTIONS)


def input_observables(jets: "Jets") -> "dict[str, Tensor]":
    """Return one number per jet for each observable.

    The multiplicity counts the particles of all collections. The others are of the first collection: the transverse
    momentum of the sum of its particles in GeV, and the scalar pT of its three hardest particles divided by that of all
    (0 where there are fewer particles). Without four-momenta there is only the multiplicity.
    """
    ragged = jets.ragged()
    observables = {MULTIPLICITY: ragged.total_count_N}
    if ragged.vectors_V4 is None:
        return observables
    momenta_V2 = ragged.vectors_V4[:, :2].double()
    jet_V = _jet_of(ragged)
    sum_N2 = momenta_V2.new_zeros(len(ragged), 2).index_add_(0, jet_V, momenta_V2)
    observables[JET_PT] = sum_N2.norm(dim=1)
    fraction_NR = _leading_fractions(momenta_V2.norm(dim=1), jet_V, ragged.particle_count_N)
    return observables | dict(zip(FRACTIONS, fraction_NR.unbind(dim=1), strict=True))


def _jet_of(jets: "RaggedJets") -> "Int[Tensor, ' V']":
    import torch

    count_N = jets.particle_count_N
    return torch.arange(len(jets), device=count_N.device).repeat_interleave(count_N)


def _leading_fractions(
    pt_V: "Float[Tensor, ' V']", jet_V: "Int[Tensor, ' V']", count_N: "Int[Tensor, ' N']"
) -> "Float[Tensor, 'N 3']":
    import torch

    slot_V = torch.arange(len(pt_V), device=pt_V.device) - (count_N.cumsum(0) - count_N)[jet_V]
    slots = max(len(FRACTIONS), int(count_N.max()) if len(count_N) else 0)
    pt_NP = pt_V.new_zeros(len(count_N), slots)
    pt_NP[jet_V, slot_V] = pt_V
    total_N1 = pt_NP.sum(dim=1, keepdim=True)
    return pt_NP.topk(len(FRACTIONS), dim=1).values / total_N1.clamp(min=torch.finfo(pt_V.dtype).tiny)
