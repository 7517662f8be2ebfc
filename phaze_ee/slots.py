"""Where the particles of jets lie: in slots of padded tensors, and in the rows of ragged ones.

Shape letters: N jets, P particles of a padded jet, S slots of all padded jets, V particles of all jets.
"""

import torch
from torch import Tensor

from phaze_ee.shapes import Bool, Int


def real_slots(valid_NP: Bool[Tensor, "N P"], particles: int | None) -> tuple[Int[Tensor, " V"], Int[Tensor, " V"]]:
    """Return jet and slot of each real particle, jet after jet. The host does not wait if it knows their number V."""
    if particles is None:
        jet_V, slot_V = valid_NP.nonzero(as_tuple=True)
        return jet_V, slot_V
    valid_S = valid_NP.flatten()
    place_S = (valid_S.cumsum(0) - 1).where(valid_S, particles)  # the row of each particle; padding goes to one more
    every_S = torch.arange(len(valid_S), device=valid_S.device)
    slot_V = every_S.new_empty(particles + 1).scatter_(0, place_S, every_S)[:particles]
    return slot_V // valid_NP.shape[1], slot_V % valid_NP.shape[1]


def used_slots(valid_NP: Bool[Tensor, "N P"]) -> int:
    """Return the number of slots up to the last one that any jet uses."""
    used_P = valid_NP.any(dim=0).nonzero()
    return 0 if used_P.numel() == 0 else int(used_P[-1]) + 1


def select_ragged(count_N: Int[Tensor, " N"], keep_N: Tensor) -> tuple[Int[Tensor, " V"], Int[Tensor, " N"]]:
    """Return the rows of the particles of some jets, jet after jet, and how many each of these jets has.

    Args:
        count_N: the particles of each jet.
        keep_N: the jets, as a boolean mask or an index.
    """
    kept_N = count_N[keep_N]
    return ragged_rows((count_N.cumsum(0) - count_N)[keep_N], kept_N), kept_N


def ragged_rows(first_N: Int[Tensor, " N"], count_N: Int[Tensor, " N"], rows: int | None = None) -> Int[Tensor, " V"]:
    """Return the rows of jets that have ``count_N`` rows from ``first_N`` on, jet after jet.

    Args:
        first_N: the first row of each jet.
        count_N: its number of rows.
        rows: their sum V. If it is None, the host waits for the device to tell it.
    """
    shift_V = (first_N - (count_N.cumsum(0) - count_N)).repeat_interleave(count_N, output_size=rows)
    return shift_V + torch.arange(len(shift_V), device=shift_V.device)
