"""The k nearest neighbours of each particle in its jet, without padding."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from phaze_ee.compiled import has_numba
from phaze_ee.kernels.availability import runs_kernels
from phaze_ee.models.precision import widened
from phaze_ee.models.states import JetGroup, JetLayout
from phaze_ee.shapes import Float, Int

_INFINITY = float("inf")
_KERNEL_TYPES = (torch.float32, torch.float64)


@torch.no_grad()
def nearest_neighbours(coordinates_VD: Float[Tensor, "V D"], layout: JetLayout, k: int) -> Int[Tensor, "V k"]:
    """Return the rows of the k nearest particles of the same jet, without the particle itself, in any order.

    Row V is a missing neighbour, if the jet has fewer than k other particles. There, weaver uses padding, whose
    features are zero.

    At equal distances the choice is arbitrary, as in weaver. weaver takes the first k + 1 of ``torch.topk`` and drops
    the first one. If another particle has the same coordinates, it may drop that one and keep the particle as its own
    neighbour, depending on the padding. Here a particle is never its own neighbour, so the answer does not depend on
    the order of the particles.
    """
    coordinates_VD = widened(coordinates_VD)
    if runs_kernels(coordinates_VD) and coordinates_VD.dtype in _KERNEL_TYPES:
        from phaze_ee.kernels import neighbours as kernel

        if k <= kernel.MOST_NEIGHBOURS:
            jet_V = layout.jet_of(len(coordinates_VD))
            return kernel.nearest_neighbours(coordinates_VD.detach(), jet_V, layout.offset_N, layout.count_N, k)
    if coordinates_VD.device.type != "cpu" or not has_numba():
        return in_groups(coordinates_VD, layout, k)
    from phaze_ee.models.particle_net.loops import find_nearest

    index_Vk = layout.count_N.new_empty(len(coordinates_VD), k)
    find_nearest(coordinates_VD.detach().contiguous().numpy(), layout.count_N.contiguous().numpy(), index_Vk.numpy())
    return index_Vk


def in_groups(coordinates_VD: Float[Tensor, "V D"], layout: JetLayout, k: int) -> Int[Tensor, "V k"]:
    """Return the neighbours as :func:`nearest_neighbours`, from many jets at once: for devices without kernels."""
    index_Vk = layout.count_N.new_empty(len(coordinates_VD), k)
    for group in layout.groups:
        index_Vk[group.row_R] = _in_group(coordinates_VD, group, k)
    return index_Vk


def _in_group(coordinates_VD: Tensor, group: JetGroup, k: int) -> Int[Tensor, "R k"]:
    coordinates_GMD = coordinates_VD.index_select(0, group.row_GM.flatten()).view(*group.row_GM.shape, -1)
    square_GM = coordinates_GMD.square().sum(dim=-1).masked_fill_(~group.valid_GM, _INFINITY)
    # |x_i − x_j|² without |x_i|², which is the same for all j.
    with torch.autocast(coordinates_VD.device.type, enabled=False):
        distance_GMM = torch.baddbmm(square_GM[:, None], coordinates_GMD, coordinates_GMD.transpose(1, 2), alpha=-2)
    distance_GMM.diagonal(dim1=1, dim2=2).fill_(_INFINITY)
    found = min(k, distance_GMM.shape[-1])
    distance_RM = distance_GMM.flatten(0, 1).index_select(0, group.slot_R)
    nearest_Rk, position_Rk = distance_RM.topk(found, dim=-1, largest=False, sorted=False)
    none = len(coordinates_VD)
    index_Rk = (position_Rk + group.first_R[:, None]).masked_fill_(nearest_Rk == _INFINITY, none)
    return pad(index_Rk, (0, k - found), value=none)
