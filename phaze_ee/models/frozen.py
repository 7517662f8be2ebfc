"""Frozen features: the stages of a frozen backbone are computed once and looked up, and exits train on them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self, final

from torch import Tensor, nn

from phaze_ee.models.backbone import Stages
from phaze_ee.models.states import JetLayout, PackedState
from phaze_ee.names import ExitStage
from phaze_ee.shapes import Float, Int
from phaze_ee.types import Jets, State


@final
@dataclass(frozen=True)
class FrozenJets:
    """A batch of jets as features of a frozen backbone.

    Attributes:
        rows: for each stored stage, in the order of the backbone, the features of all particles; those of jet 0 first.
        particle_count_N: particles of each jet.
        logits_NK: the logits of the full model.
    """

    rows: tuple[Float[Tensor, "V _"], ...]
    particle_count_N: Int[Tensor, " N"]
    logits_NK: Float[Tensor, "N K"]

    def __len__(self) -> int:
        return len(self.particle_count_N)

    def map(self, change: Callable[[Tensor], Tensor]) -> "FrozenJets":
        """Return the jets with ``change`` applied to every tensor."""
        return FrozenJets(tuple(map(change, self.rows)), change(self.particle_count_N), change(self.logits_NK))


@final
@dataclass(frozen=True)
class FrozenState(State):
    """The state after ``stage``, together with the states of all stored stages; other stages have no features."""

    at: Mapping[ExitStage, PackedState]
    logits_NK: Float[Tensor, "N K"]
    stage: ExitStage = "input"

    def __len__(self) -> int:
        return len(self.logits_NK)

    @property
    def here(self) -> PackedState:
        return self.at[self.stage]

    def _changed(self, change: Callable[[PackedState], PackedState]) -> Self:
        return replace(self, at={**self.at, self.stage: change(self.here)})

    def select(self, keep_N: Tensor) -> Self:
        at = {stage: state.select(keep_N) for stage, state in self.at.items()}
        return replace(self, at=at, logits_NK=self.logits_NK[keep_N])

    def detach(self) -> Self:
        return self._changed(PackedState.detach)

    def map(self, per_particle: nn.Module) -> Self:
        return self._changed(lambda state: state.map(per_particle))

    def pool(self, kind: Literal["mean", "max"]) -> Float[Tensor, "N C"]:
        return self.here.pool(kind)

    def rows(self) -> Float[Tensor, "V C"]:
        return self.here.rows()

    def counts(self) -> Int[Tensor, " N"]:
        return self.here.counts()


@final
class FrozenBackbone(Stages[FrozenState]):
    """Looks up the stages of a frozen backbone in :class:`FrozenJets`.

    Args:
        original: the backbone that computed the features. It does not run; its channels and costs are used.
        stages: the stored stages, in the order of the backbone.
    """

    name: ClassVar[str] = "frozen features"

    def __init__(self, original: Stages[Any], stages: Sequence[ExitStage]) -> None:
        super().__init__()
        self.original = original
        self.stages = tuple(stages)
        self.num_classes = original.num_classes
        self.input_channels = original.input_channels
        self.stage_channels = original.stage_channels

    def embed(self, inputs: Jets | FrozenJets) -> FrozenState:
        assert isinstance(inputs, FrozenJets)
        layout = JetLayout(inputs.particle_count_N)
        at = {
            stage: PackedState(row_VC, row_VC, layout, length=0)
            for stage, row_VC in zip(self.stages, inputs.rows, strict=True)
        }
        return FrozenState(at, inputs.logits_NK)

    def stage(self, index: int, state: FrozenState) -> FrozenState:
        return replace(state, stage=index)

    def readout(self, state: FrozenState) -> Float[Tensor, "N K"]:
        return state.logits_NK

    def stage_macs(self, index: int, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        return self.original.stage_macs(index, particle_count_N)

    def readout_macs(self, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        return self.original.readout_macs(particle_count_N)
