"""The types that flow between packages.

Shape letters: N jets, C channels, P particles of a padded jet, V particles of all jets, K classes, E exits.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from phaze_ee.errors import UsageError
from phaze_ee.names import ExitStage
from phaze_ee.shapes import Bool, Float, Int
from phaze_ee.slots import real_slots, select_ragged, used_slots
from phaze_ee.transfer import constants, moved

GLOBALS = "globals"  # the entry of ``more`` that holds numbers of the jet itself: the features of one "particle"


class Collections:
    """What padded and ragged jets have in common: a first collection of particles, and ``more`` by name.

    ``more["globals"]`` is no collection of particles: its features are numbers of the jet itself, such as its pT.
    """

    particle_count_N: Int[Tensor, " N"]
    more: Mapping[str, Self]

    def __post_init__(self) -> None:
        for name, own in self.more.items():
            if len(own) != len(self):
                raise UsageError(
                    f"there are {len(self):,} jets, and {len(own):,} in more[{name!r}]; give the same jets"
                )

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of jets."""

    @property
    def others(self) -> dict[str, Self]:
        """The further collections of particles, by name."""
        return {name: jets for name, jets in self.more.items() if name != GLOBALS}

    @property
    def counts_NG(self) -> Int[Tensor, "N G"]:
        """The number of real particles of each jet in each of the G collections."""
        return torch.stack([self.particle_count_N, *(jets.particle_count_N for jets in self.others.values())], dim=1)

    @property
    def total_count_N(self) -> Int[Tensor, " N"]:
        """The number of real particles of each jet in all collections together."""
        return self.counts_NG.sum(dim=1) if self.others else self.particle_count_N

    def particles(self) -> Self:
        """Return the jets without the numbers of the jets themselves."""
        return replace(self, more=self.others) if GLOBALS in self.more else self  # type: ignore[type-var]

    def alone(self) -> Self:
        """Return the first collection of the jets, without the others."""
        return replace(self, more={}) if self.more else self  # type: ignore[type-var]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """Return the jets on a device. They go to a CUDA device in one transfer, for which the host does not wait."""
        return moved(self.map, torch.device(device), non_blocking=non_blocking)

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Return the jets with ``change`` applied to every tensor, those of further collections included."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}  # type: ignore[arg-type]
        changed: dict[str, Any] = {name: change(value) for name, value in values.items() if isinstance(value, Tensor)}
        if self.more:
            changed["more"] = {name: jets.map(change) for name, jets in self.more.items()}
        return replace(self, **changed)  # type: ignore[type-var]


@dataclass(frozen=True)
class JetInputs(Collections):
    """A batch of jets, padded to one length P.

    ``vectors`` are (px, py, pz, energy) in GeV; None is allowed for networks that do not use them, and so are
    ``points`` without channels, (N, 0, P). ``mask`` is 1 (or True) where a slot holds a real particle, else 0. No
    network reads the content of other slots, except BatchNorm in training. ``more`` are further collections of the same
    jets by name, for example the secondary vertices ``sv``, each with features and a length of its own.
    """

    points: Float[Tensor, "N 2 P"]
    features: Float[Tensor, "N C P"]
    vectors: Float[Tensor, "N 4 P"] | None
    mask: Float[Tensor, "N 1 P"] | Bool[Tensor, "N 1 P"]
    more: Mapping[str, "JetInputs"] = field(default_factory=dict, kw_only=True)

    def __len__(self) -> int:
        return self.features.shape[0]

    @property
    def valid_N1P(self) -> Bool[Tensor, "N 1 P"]:
        """Whether each slot holds a real particle."""
        return self.mask.bool()

    @property
    def particle_count_N(self) -> Int[Tensor, " N"]:  # type: ignore[override] # ragged jets store it
        """The number of real particles of each jet, without further collections."""
        return self.valid_N1P.sum(dim=(1, 2))

    @property
    def used_length(self) -> int:
        """The number of slots up to the last one that any jet uses."""
        return max([used_slots(self.valid_N1P[:, 0]), *(jets.used_length for jets in self.others.values())])

    def select(self, keep_N: Tensor) -> Self:
        """Return the jets that a boolean mask or an index names."""
        return self.map(lambda tensor: tensor[keep_N])

    def padded(self, length: int | None = None) -> "JetInputs":
        """Return the jets with ``length`` slots in each collection, cut or padded with zeros; None: as they are."""
        if length is None:
            return self
        return self.map(lambda tensor: pad(tensor[..., :length], (0, max(0, length - tensor.shape[-1]))))

    def without_vectors(self) -> Self:
        """Return the jets without their four-momenta."""
        return replace(self, vectors=None, more={name: jets.without_vectors() for name, jets in self.more.items()})

    def ragged(self, particles: int | None = None) -> "RaggedJets":
        """Return the real particles alone, jet after jet, in their order.

        Args:
            particles: how many there are in the first collection. If it is None, the host waits for the device to count
                them.
        """
        valid_NP = self.valid_N1P[:, 0]
        jet_V, slot_V = real_slots(valid_NP, particles)

        def rows(tensor: Tensor) -> Tensor:
            return tensor.transpose(1, 2)[jet_V, slot_V]

        vectors = None if self.vectors is None else rows(self.vectors)
        more = {name: jets.ragged() for name, jets in self.more.items()}
        return RaggedJets(rows(self.points), rows(self.features), vectors, valid_NP.sum(dim=1), more=more)


@dataclass(frozen=True)
class RaggedJets(Collections):
    """A batch of jets without padding: one row for each of the V particles of all jets, those of jet 0 first.

    The columns are those of :class:`JetInputs`; ``particle_count_N`` is the number of particles of each jet, without
    those of further collections, which ``more`` holds.
    """

    points_V2: Float[Tensor, "V 2"]
    features_VC: Float[Tensor, "V C"]
    vectors_V4: Float[Tensor, "V 4"] | None
    particle_count_N: Int[Tensor, " N"]
    more: Mapping[str, "RaggedJets"] = field(default_factory=dict, kw_only=True)

    def __len__(self) -> int:
        return self.particle_count_N.shape[0]

    @property
    def used_length(self) -> int:
        """The number of particles of the longest jet."""
        # The host does not wait for the device to tell it the number of particles of one jet.
        own = [self.features_VC.shape[0]] if len(self) == 1 else self.particle_count_N.tolist()
        return max([*own, *(jets.used_length for jets in self.others.values())], default=0)

    def select(self, keep_N: Tensor) -> Self:
        """Return the jets that a boolean mask or an index names."""
        row_V, count_N = select_ragged(self.particle_count_N, keep_N)
        # Three times as fast as indexing with a tensor.
        vectors = None if self.vectors_V4 is None else self.vectors_V4.index_select(0, row_V)
        points, features = (rows.index_select(0, row_V) for rows in (self.points_V2, self.features_VC))
        more = {name: jets.select(keep_N) for name, jets in self.more.items()}
        changed: dict[str, Any] = {"points_V2": points, "features_VC": features, "vectors_V4": vectors}
        return replace(self, **changed, particle_count_N=count_N, more=more)

    def padded(self, length: int | None = None) -> JetInputs:
        """Return the jets padded with zeros to ``length`` slots in each collection; None: to the longest jet."""
        slots = max(self.particle_count_N.tolist(), default=0) if length is None else length
        return self._padded(Padding(slots, {"points": (0.0,), "features": (0.0,), "vectors": (0.0,)}), length)

    def without_vectors(self) -> Self:
        """Return the jets without their four-momenta."""
        return replace(self, vectors_V4=None, more={name: jets.without_vectors() for name, jets in self.more.items()})

    def ragged(self, particles: int | None = None) -> "RaggedJets":
        """Return the jets as they are."""
        return self

    def _padded(self, padding: "Padding", length: int | None) -> JetInputs:
        count_N = self.particle_count_N
        points = padding.fill("points", self.points_V2, count_N)
        features = padding.fill("features", self.features_VC, count_N)
        vectors = None if self.vectors_V4 is None else padding.fill("vectors", self.vectors_V4, count_N)
        valid_NP = torch.arange(padding.length, device=count_N.device) < count_N[:, None]
        more = {name: jets.padded(length) for name, jets in self.more.items()}
        return JetInputs(points, features, vectors, valid_NP[:, None].to(features.dtype), more=more)


@dataclass(frozen=True)
class Padding:
    """How jets are padded: to ``length`` slots P, and with what.

    ``fills`` names for each kind of input (points, features, vectors, mask) what slots after the last particle hold:
    one number per channel or one for all, or None for the jet's particles again, from the first on (weaver's pad mode
    ``wrap``; a jet without particles has zeros there).
    """

    length: int
    fills: Mapping[str, tuple[float, ...] | None]

    def fill(self, kind: str, row_VC: Float[Tensor, "V C"], count_N: Int[Tensor, " N"]) -> Float[Tensor, "N C P"]:
        """Return the slots of one kind of input of ragged jets; particles after the first P are left out."""
        values = self.fills[kind]
        row_NP = self._rows(count_N, wrap=values is None)
        last_C = constants(values or (0.0,), row_VC.dtype, row_VC.device).expand(row_VC.shape[1])
        slot_SC = torch.cat([row_VC, last_C[None]]).index_select(0, row_NP.flatten())
        return slot_SC.view(*row_NP.shape, row_VC.shape[1]).transpose(1, 2).contiguous()

    def _rows(self, count_N: Int[Tensor, " N"], *, wrap: bool) -> Int[Tensor, "N P"]:
        """Return the particle that each slot holds, the number of particles V where it holds none."""
        count_N1 = count_N[:, None]
        slot_P = torch.arange(self.length, device=count_N.device)
        first_N1 = count_N1.cumsum(0) - count_N1
        if wrap:
            return torch.where(count_N1 > 0, first_N1 + slot_P % count_N1.clamp(min=1), count_N.sum())
        return torch.where(slot_P < count_N1, first_N1 + slot_P, count_N.sum())


@dataclass(frozen=True)
class LoadedJets(RaggedJets):
    """Ragged jets from files, with the padding of their data configuration.

    Without an argument, ``padded()`` gives what weaver's loader gives: P slots, filled as the configuration says.
    BatchNorm in training depends on both. ``points``, ``features``, ``vectors`` and ``mask`` are those of this form.
    """

    padding: Padding

    def padded(self, length: int | None = None) -> JetInputs:
        """Return the jets with ``length`` slots, padded with zeros; None: as the data configuration says."""
        return self._padded(self.padding, None) if length is None else super().padded(length)

    @property
    def points(self) -> Float[Tensor, "N 2 P"]:
        """The points of ``padded()``."""
        return self.padding.fill("points", self.points_V2, self.particle_count_N)

    @property
    def features(self) -> Float[Tensor, "N C P"]:
        """The features of ``padded()``."""
        return self.padding.fill("features", self.features_VC, self.particle_count_N)

    @property
    def vectors(self) -> Float[Tensor, "N 4 P"] | None:
        """The four-momenta of ``padded()``, in GeV."""
        return None if self.vectors_V4 is None else self.padding.fill("vectors", self.vectors_V4, self.particle_count_N)

    @property
    def mask(self) -> Float[Tensor, "N 1 P"]:
        """The mask of ``padded()``."""
        return self.padded().mask


Jets = JetInputs | RaggedJets


def globals_of(jets: Jets) -> Float[Tensor, "N G"] | None:
    """Return the numbers of the jets themselves; None if they have none."""
    own = jets.more.get(GLOBALS)
    if own is None:
        return None
    return own.features_VC if isinstance(own, RaggedJets) else own.features[..., 0]


def with_globals(jets: Jets, globals_NG: Float[Tensor, "N G"]) -> Jets:
    """Return jets with G numbers for each jet itself, standardised as the data configuration says.

    Args:
        jets: padded or not.
        globals_NG: one row for each jet.

    Raises:
        UsageError: there is another number of rows.
    """
    if globals_NG.ndim != 2 or len(globals_NG) != len(jets):
        raise UsageError(
            f"{len(jets):,} jets need numbers of shape ({len(jets)}, G), and they have {tuple(globals_NG.shape)}; give "
            "one row for each jet"
        )
    one_N = torch.ones(len(jets), dtype=torch.long, device=globals_NG.device)
    own: Jets = RaggedJets(globals_NG[:, :0], globals_NG, None, one_N)
    return with_collections(jets, {**jets.more, GLOBALS: own if isinstance(jets, RaggedJets) else own.padded()})


def with_collections(first: Jets, more: Mapping[str, Jets]) -> Jets:
    """Return jets with further collections by name. All are padded, unless all are ragged."""
    ragged = {name: jets for name, jets in more.items() if isinstance(jets, RaggedJets)}
    if isinstance(first, RaggedJets) and len(ragged) == len(more):
        return replace(first, more=ragged)
    return replace(first.padded(), more={name: jets.padded() for name, jets in more.items()})


class State(ABC):
    """What flows between the stages of a backbone. Exit heads and the engine use nothing else."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of jets."""

    @abstractmethod
    def select(self, keep_N: Tensor) -> Self:
        """Return the state of the jets that a boolean mask or an index names."""

    @abstractmethod
    def detach(self) -> Self:
        """Return the state without its gradient history."""

    @abstractmethod
    def map(self, per_particle: nn.Module) -> "State":
        """Apply a module to the channels of each real particle, which are in the last dimension."""

    @abstractmethod
    def pool(self, kind: Literal["mean", "max"]) -> Float[Tensor, "N C"]:
        """Reduce over the real particles of each jet; a jet without particles gives zeros."""

    @abstractmethod
    def rows(self) -> Float[Tensor, "V C"]:
        """Return the channels of the real particles, jet after jet, in their order."""

    @abstractmethod
    def counts(self) -> Int[Tensor, " N"]:
        """Return the number of real particles of each jet."""


@dataclass(frozen=True)
class Exit:
    """One answer of a tagger on its walk: that of an exit, or of the full model at the end.

    Attributes:
        index: the exit, counted from 0; the full model is the last.
        stage: the stage that the exit follows; None: the full model.
        logits_NK: the answer.
        trained_NK: the logits that the loss acts on. They differ from the answer if a link with parameters of its own
            makes the answer from several exits.
        value_NR: what is predicted for the R targets, in their own units; None: the tagger has no targets.
    """

    index: int
    stage: ExitStage | None
    logits_NK: Float[Tensor, "N K"]
    trained_NK: Float[Tensor, "N K"]
    value_NR: Float[Tensor, "N R"] | None = None

    @property
    def is_full_model(self) -> bool:
        """Whether this is the full model's answer."""
        return self.stage is None


@dataclass(frozen=True)
class JetBatch:
    """Jets as a loader yields them: inputs, true classes, and the observer columns of the data configuration.

    ``label_N`` is -1 where the files do not name the class. The inputs are ragged, except where real particles are not
    the first of their jet: where the mask of the data configuration leaves some out, or counts padding as real.
    ``target_NR`` are the targets of a regression; None: there are none, or they were not read.
    """

    inputs: Jets
    label_N: Int[Tensor, " N"]
    observers: dict[str, npt.NDArray[np.generic]] = field(default_factory=dict)
    target_NR: Float[Tensor, "N R"] | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Return the batch with ``change`` applied to every tensor; observers stay."""
        target_NR = None if self.target_NR is None else change(self.target_NR)
        return type(self)(self.inputs.map(change), change(self.label_N), self.observers, target_NR)
