"""The edges of padded slots, which enter the BatchNorm statistics of weaver.

weaver normalises over padded slots too. Their features are zero, so all edges between padded slots are the same vector,
and one extra row with a weight represents them. The exception is a jet with 1 ≤ q ≤ k padded slots. There, each padded
slot has only q − 1 others as neighbours, and k + 1 − q real particles: those nearest to the point (s, s, …), s = 1e9,
where weaver puts padding. For large s these are the particles with the largest sum of coordinates, which are used here.
In float64, weaver resolves the differences and finds the same ones. In float32, all distances round to the same number,
and the choice of weaver depends on the implementation of ``torch.topk``.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from phaze_ee.models.states import PackedState
from phaze_ee.shapes import Int


@torch.no_grad()
def padded_slots(state: PackedState, k: int) -> tuple[Int[Tensor, "N k"], Int[Tensor, " N"]]:
    """Return the k neighbours of a padded slot of each jet, and the number of padded slots of each jet.

    All padded slots of a jet have the same neighbours. Neighbour V is padding. The shapes do not depend on values, so
    nothing waits for the device.
    """
    particles = len(state.features_VC)
    padding_N = state.length - state.layout.count_N
    slot_P = torch.arange(state.length, device=padding_N.device)
    valid_NP = slot_P < state.layout.count_N[:, None]
    row_NP = (state.layout.offset_N[:, None] + slot_P).where(valid_NP, particles)
    total_S = pad(state.coordinates_VD.sum(dim=1), (0, 1), value=-float("inf"))
    first_Nk = total_S.index_select(0, row_NP.flatten()).view_as(row_NP).topk(k, dim=1).indices
    seen_Nk = (slot_P[:k] < k + 1 - padding_N[:, None]) & (padding_N[:, None] > 0)
    return row_NP.gather(1, first_Nk).where(seen_Nk, particles), padding_N
