"""The types that flow between packages. Shape letters: N jets, C channels, P particles, K classes, E exits."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from phaze_ee.names import ExitStage
from phaze_ee.shapes import Bool, Float, Int


@dataclass(frozen=True)
class JetInputs:
    """A batch of jets, padded to one length P.

    ``vectors`` are (px, py, pz, energy) in GeV; networks that do not use them accept None. In ``mask`` a real
    particle is 1 (or True), padding 0; the content of padded slots is never read.
    """

    points: Float[Tensor, "N 2 P"]
    features: Float[Tensor, "N C P"]
    vectors: Float[Tensor, "N 4 P"] | None
    mask: Float[Tensor, "N 1 P"] | Bool[Tensor, "N 1 P"]

    def __len__(self) -> int:
        return self.features.shape[0]

    @property
    def valid_N1P(self) -> Bool[Tensor, "N 1 P"]:
        return self.mask.bool()

    @property
    def particle_count_N(self) -> Int[Tensor, " N"]:
        return self.valid_N1P.sum(dim=(1, 2))

    def select(self, keep_N: Tensor) -> Self:
        """Return the jets that a boolean mask or an index names."""
        return self.map(lambda tensor: tensor[keep_N])

    @property
    def used_length(self) -> int:
        """How many slots there are up to the last that is used in any jet."""
        return used_slots(self.valid_N1P[:, 0])

    def padded(self) -> "JetInputs":
        return self

    def ragged(self) -> "RaggedJets":
        """Return the real particles alone, jet after jet, in their order."""
        valid_NP = self.valid_N1P[:, 0]

        def rows(tensor: Tensor) -> Tensor:
            return tensor.transpose(1, 2)[valid_NP]

        vectors = None if self.vectors is None else rows(self.vectors)
        return RaggedJets(rows(self.points), rows(self.features), vectors, valid_NP.sum(dim=1))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Return new inputs with ``change`` applied to every tensor."""
        tensors = {item.name: getattr(self, item.name) for item in fields(self)}
        changed: dict[str, Any] = {name: None if value is None else change(value) for name, value in tensors.items()}
        return replace(self, **changed)


@dataclass(frozen=True)
class RaggedJets:
    """A batch of jets without padding: the V particles of all jets, those of jet 0 first; each jet's number is given.

    The other fields are as in :class:`JetInputs`, with one row per particle.
    """

    points_V2: Float[Tensor, "V 2"]
    features_VC: Float[Tensor, "V C"]
    vectors_V4: Float[Tensor, "V 4"] | None
    particle_count_N: Int[Tensor, " N"]

    def __len__(self) -> int:
        return self.particle_count_N.shape[0]

    @property
    def used_length(self) -> int:
        """How many particles the longest jet has."""
        return max(self.particle_count_N.tolist(), default=0)

    def ragged(self) -> "RaggedJets":
        return self

    def padded(self) -> JetInputs:
        """Return the same jets padded with zeros to the longest."""
        valid_NP = torch.arange(self.used_length, device=self.particle_count_N.device) < self.particle_count_N[:, None]

        def pad(row_VC: Tensor) -> Tensor:
            padded_NPC = row_VC.new_zeros(*valid_NP.shape, row_VC.shape[1])
            padded_NPC[valid_NP] = row_VC
            return padded_NPC.transpose(1, 2)

        vectors = None if self.vectors_V4 is None else pad(self.vectors_V4)
        return JetInputs(pad(self.points_V2), pad(self.features_VC), vectors, valid_NP[:, None])

    def select(self, keep_N: Tensor) -> "RaggedJets":
        """Return the jets that a boolean mask or an index names."""
        row_V, count_N = select_ragged(self.particle_count_N, keep_N)
        # Three times as fast as indexing with a tensor.
        vectors = None if self.vectors_V4 is None else self.vectors_V4.index_select(0, row_V)
        points, features = (rows.index_select(0, row_V) for rows in (self.points_V2, self.features_VC))
        return RaggedJets(points, features, vectors, count_N)


def used_slots(valid_NP: Bool[Tensor, "N P"]) -> int:
    """Return how many slots there are up to the last that is used in any jet."""
    used_P = valid_NP.any(dim=0).nonzero()
    return 0 if used_P.numel() == 0 else int(used_P[-1]) + 1


def select_ragged(count_N: Int[Tensor, " N"], keep_N: Tensor) -> tuple[Int[Tensor, " V"], Int[Tensor, " N"]]:
    """Return which particles a selection of jets keeps, jet after jet, and how many each of these jets has.

    ``keep_N`` is a boolean mask or an index, as for a tensor.
    """
    kept_N = count_N[keep_N]
    return ragged_rows((count_N.cumsum(0) - count_N)[keep_N], kept_N), kept_N


def ragged_rows(first_N: Int[Tensor, " N"], count_N: Int[Tensor, " N"]) -> Int[Tensor, " V"]:
    """Return the rows of jets that have ``count_N`` rows from ``first_N`` on, jet after jet."""
    shift_V = (first_N - (count_N.cumsum(0) - count_N)).repeat_interleave(count_N)
    return shift_V + torch.arange(len(shift_V), device=shift_V.device)


Jets = JetInputs | RaggedJets


class State(ABC):
    """What flows between the stages of a backbone. Exit heads and the engine touch nothing else."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def select(self, keep_N: Tensor) -> Self:
        """Return the state of the jets that a boolean mask or an index names."""

    @abstractmethod
    def detach(self) -> Self:
        """Return the state without its gradient history."""

    @abstractmethod
    def map(self, per_particle: nn.Module) -> Self:
        """Apply a module to the channels of each real particle; it sees them in the last dimension."""

    @abstractmethod
    def pool(self, kind: Literal["mean", "max"]) -> Float[Tensor, "N C"]:
        """Reduce over the real particles of each jet; a jet without particles gives zeros."""

    @abstractmethod
    def rows(self) -> Float[Tensor, "V C"]:
        """Return the channels of the real particles, jet after jet, each jet's in their order."""

    @abstractmethod
    def counts(self) -> Int[Tensor, " N"]:
        """Return how many real particles each jet has."""


@dataclass(frozen=True)
class Exit:
    """One answer of a tagger on its walk: an exit branch, or the full model at the end.

    ``trained_NK`` are the logits that the loss acts on. They differ from the answer where this is made of several exits
    by a link with parameters of its own.
    """

    index: int
    stage: ExitStage | None  # None: the full model's own readout
    logits_NK: Float[Tensor, "N K"]
    trained_NK: Float[Tensor, "N K"]

    @property
    def is_full_model(self) -> bool:
        return self.stage is None


@dataclass(frozen=True)
class JetBatch:
    """Jets as a loader yields them: inputs, true classes, and the observer columns of the data configuration.

    ``label_N`` is -1 for jets whose class the files do not tell.
    """

    inputs: JetInputs
    label_N: Int[Tensor, " N"]
    observers: dict[str, npt.NDArray[np.generic]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.inputs)
