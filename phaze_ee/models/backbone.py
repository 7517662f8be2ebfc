"""What a network architecture must offer to get exits: its stages, their channels, and what they cost."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Self, TypeVar

from torch import Tensor, nn

from phaze_ee.errors import UsageError
from phaze_ee.shapes import Float, Int
from phaze_ee.types import Jets, State

StateT = TypeVar("StateT", bound=State)


class Backbone(nn.Module, ABC, Generic[StateT]):
    """A network as a sequence of stages.

    ``embed`` turns inputs into a state, ``stage`` takes it one block further, ``readout`` is the network's own head.
    Nothing here knows of exits: these belong to :class:`phaze_ee.models.tagger.Tagger`.
    """

    name: ClassVar[str]
    has_packed_form: ClassVar[bool] = False
    pads_to_longest: ClassVar[bool] = False  # and what a jet costs grows with the longest of its batch
    weaver_class: ClassVar[type[nn.Module] | None] = None  # None: a network of its own, not stages around another
    num_classes: int
    input_channels: int
    stage_channels: tuple[int, ...]

    @property
    @abstractmethod
    def arguments(self) -> Mapping[str, Any]:
        """Plain values from which :meth:`from_arguments` builds the same architecture; checkpoints store them."""

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> Self:
        """Build the architecture, with fresh weights: ``arguments`` are the keywords of the network's constructor."""
        return cls(**arguments) if cls.weaver_class is None else cls(cls.weaver_class(**arguments))

    @classmethod
    def from_weaver(cls, module: Any) -> Self:
        """Put stages around a module of ``weaver_class``, whose parameters are shared, not copied.

        A backbone without ``weaver_class`` is such a module itself.

        Raises:
            UsageError: the module has a part that does not fit into stages.
        """
        backbone: Self = module if cls.weaver_class is None else cls(module)
        return backbone

    def modern_names(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return weights from a file of weaver's under the names they have today."""
        return weights

    @abstractmethod
    def embed(self, inputs: Jets) -> StateT:
        """Return the state before stage 0. The inputs are not changed."""

    @abstractmethod
    def stage(self, index: int, state: StateT) -> StateT:
        """Return the state after stage ``index``, which has ``stage_channels[index]`` channels."""

    @abstractmethod
    def readout(self, state: StateT) -> Float[Tensor, "N K"]:
        """Return the full model's logits from the state after the last stage."""

    @abstractmethod
    def stage_macs(self, index: int, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        """Return the multiply-accumulates that stage ``index`` spends on jets of so many particles.

        All matrix products count, those of the neighbour search too; activations and normalisations do not.
        """

    @abstractmethod
    def readout_macs(self, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        """Return the multiply-accumulates of the readout, as :meth:`stage_macs` counts them."""

    def packed(self) -> "Backbone[Any]":
        """Return the same network, over the same parameters, in a form that spends nothing on padding.

        Raises:
            UsageError: this architecture has no such form.
        """
        raise UsageError(f"{self.name} has no packed form")

    def native(self) -> "Backbone[Any]":
        """Return the same network, over the same parameters, in compiled code for inference on the CPU.

        Raises:
            UsageError: this architecture has no such form, or it cannot be compiled.
        """
        raise UsageError(f"{self.name} has no native form")


def macs_per_row(module: nn.Module) -> int:
    """Return the multiply-accumulates that a module spends on the channels of one particle, edge or jet.

    They are those of its linear layers and of its convolutions with a kernel of one slot, each applied once.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d)]
    return sum(layer.weight.numel() for layer in layers)
