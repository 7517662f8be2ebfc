"""A frozen backbone whose features were computed before: its stages are looked up, and exits train on them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NoReturn, Self, final

import torch
from torch import Tensor, nn

from phaze_ee.models.backbone import Backbone
from phaze_ee.models.states import JetLayout, PackedState
from phaze_ee.names import ExitStage
from phaze_ee.shapes import Float, Int
from phaze_ee.types import Jets, State


@final
@dataclass(frozen=True)
class CachedJets:
    """A batch of jets with what a backbone makes of them: the channels of their particles after some of its stages.

    ``rows`` has one tensor for each of these stages, in the backbone's order, the particles of jet 0 first;
    ``logits_NK`` are the full model's.
    """

    rows: tuple[Float[Tensor, "V _"], ...]
    particle_count_N: Int[Tensor, " N"]
    logits_NK: Float[Tensor, "N K"]

    def __len__(self) -> int:
        return len(self.particle_count_N)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "CachedJets":
        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=non_blocking)

        return CachedJets(tuple(map(move, self.rows)), move(self.particle_count_N), move(self.logits_NK))


@final
@dataclass(frozen=True)
class CachedState(State):
    """The state after ``stage``, with those that follow; at a stage that was not stored there is nothing to ask for."""

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
class CachedBackbone(Backbone[CachedState]):
    """Stands in for a frozen backbone where jets come as :class:`CachedJets`.

    Args:
        original: the backbone that the features are of. It is not run; it tells channels and costs.
        stages: the stages that were stored, in the backbone's order.
    """

    name: ClassVar[str] = "cached"

    def __init__(self, original: Backbone[Any], stages: Sequence[ExitStage]) -> None:
        super().__init__()
        self.original = original
        self.stages = tuple(stages)
        self.num_classes = original.num_classes
        self.input_channels = original.input_channels
        self.stage_channels = original.stage_channels

    @property
    def arguments(self) -> Mapping[str, Any]:
        return self.original.arguments

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> NoReturn:
        raise TypeError("a CachedBackbone is made of another backbone and its stored features")

    @classmethod
    def from_weaver(cls, module: Any) -> NoReturn:
        raise TypeError("a CachedBackbone is made of another backbone and its stored features")

    def embed(self, inputs: Jets | CachedJets) -> CachedState:
        assert isinstance(inputs, CachedJets)
        layout = JetLayout(inputs.particle_count_N)
        at = {
            stage: PackedState(row_VC, row_VC, layout, length=0)
            for stage, row_VC in zip(self.stages, inputs.rows, strict=True)
        }
        return CachedState(at, inputs.logits_NK)

    def stage(self, index: int, state: CachedState) -> CachedState:
        return replace(state, stage=index)

    def readout(self, state: CachedState) -> Float[Tensor, "N K"]:
        return state.logits_NK

    def stage_macs(self, index: int, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        return self.original.stage_macs(index, particle_count_N)

    def readout_macs(self, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        return self.original.readout_macs(particle_count_N)
