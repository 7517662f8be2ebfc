"""What a network must offer to get exits: its stages, their channels and costs, and how it is built again."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import Tensor, nn

from phaze_ee.errors import UsageError
from phaze_ee.kernels.availability import has_kernels
from phaze_ee.registry import Registry
from phaze_ee.shapes import Float, Int
from phaze_ee.types import Jets, State

_GLOBALS = "globals_count"  # in the records of checkpoints

StateT = TypeVar("StateT", bound=State)


class Stages(nn.Module, ABC, Generic[StateT]):
    """A network as a sequence of stages: what :meth:`phaze_ee.models.tagger.Tagger.walk` needs of it.

    ``embed`` turns inputs into a state, ``stage`` takes the state through one block, ``readout`` is the network's own
    head. The stages know nothing of exits.

    Attributes:
        name: the network, in messages.
        has_packed_form: whether :meth:`packed` works.
        pads_to_longest: whether the cost of a jet grows with the longest jet of its batch.
        reads_points: whether the network reads the points of the particles, so that the data must have them.
        num_classes: number of classes K.
        input_channels: features of a particle, in the state before stage 0.
        stage_channels: channels of the state after each stage.
        collections: the collections of a jet that the network takes, with their numbers of features; empty: one
            collection, of any name.
    """

    name: ClassVar[str]
    has_packed_form: ClassVar[bool] = False
    pads_to_longest: ClassVar[bool] = False
    reads_points: ClassVar[bool] = True
    num_classes: int
    input_channels: int
    stage_channels: tuple[int, ...]
    collections: Mapping[str, int] = MappingProxyType({})

    @property
    def globals_count(self) -> int:
        """G, the numbers of the jet itself, its pT say, that the network takes.

        They are put beside the pooled features of the particles, in the readout and in each exit head.
        """
        return 0

    @abstractmethod
    def embed(self, inputs: Jets) -> StateT:
        """Return the state before stage 0. The inputs are not changed."""

    @abstractmethod
    def stage(self, index: int, state: StateT) -> StateT:
        """Return the state after stage ``index``, which has ``stage_channels[index]`` channels."""

    @abstractmethod
    def readout(self, state: StateT) -> Float[Tensor, "N K"]:
        """Return the logits of the full model, from the state after the last stage.

        A network with ``readout_layers`` has one more argument, ``globals_NG``: the numbers of the jets themselves.
        """

    @abstractmethod
    def stage_macs(self, index: int, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        """Return the multiply-accumulates of stage ``index`` for jets with these numbers of particles.

        All matrix products count, also those of the neighbour search; activations and normalisations do not.
        """

    def embed_macs(self, counts_NG: Int[Tensor, "N G"]) -> Int[Tensor, " N"]:
        """Return the multiply-accumulates of :meth:`embed` for jets with these numbers of particles per collection."""
        return torch.zeros_like(counts_NG[:, 0])

    @abstractmethod
    def readout_macs(self, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        """Return the multiply-accumulates of the readout, counted as in :meth:`stage_macs`."""

    def packed_is_fast(self, device: torch.device) -> bool:
        """Return whether :meth:`packed` has fast code on a device: the CPU, or a CUDA device with kernels."""
        return device.type == "cpu" or has_kernels(device)

    @property
    def waits(self) -> bool:
        """Whether the host waits for the device in a walk of one jet without padding and with kernels, in float32."""
        return True

    @property
    def kept(self) -> object:
        """What inference computed once and reads in each walk; None: nothing."""
        return None

    def packed(self) -> "Stages[Any]":
        """Return the same network, over the same parameters, in a form that spends nothing on padding.

        Raises:
            UsageError: this architecture has no such form.
        """
        raise UsageError(f"{self.name} has no packed form")

    def native(self) -> "Stages[Any]":
        """Return the same network, over the same parameters, in compiled code for inference on the CPU.

        Raises:
            UsageError: this architecture has no such form, or it cannot be compiled.
        """
        raise UsageError(f"{self.name} has no native form")


class Backbone(Stages[StateT]):
    """A network architecture in stages, which is built from plain values and stored in checkpoints.

    Attributes:
        name: by which ``c.model_name`` chooses the network.
        weaver_class: the class of weaver around which the stages are put; None for a network of its own.
        names_in_wrapper: the names of some weights in the network of the user around this one, with those here.
    """

    weaver_class: ClassVar[type[nn.Module] | None] = None
    names_in_wrapper: Mapping[str, str] = MappingProxyType({})

    @property
    @abstractmethod
    def arguments(self) -> Mapping[str, Any]:
        """Plain values from which :meth:`from_arguments` builds the same architecture, without numbers of the jet."""

    @property
    def averages_padding(self) -> bool:
        """Whether padding counts in averages over particles, so that an answer depends on the batch of the jet."""
        return False

    @property
    def moved_keyword(self) -> str | None:
        """The argument that is empty because the embeddings of several collections have it; None: there is none."""
        return None

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> Self:
        """Build the architecture, with fresh weights. ``arguments`` are the keywords of the network's constructor."""
        return cls(**arguments) if cls.weaver_class is None else cls(cls.weaver_class(**arguments))

    @classmethod
    def staged_classes(cls) -> Iterator[type[nn.Module]]:
        """Yield the classes of modules around which :meth:`from_weaver` puts stages."""
        yield cls.weaver_class or cls

    @classmethod
    def from_weaver(cls, module: Any) -> Self:
        """Put stages around a module of one of :meth:`staged_classes`, whose parameters are shared, not copied.

        A backbone without ``weaver_class`` is such a module itself.

        Raises:
            UsageError: the module has a part that does not fit into stages.
        """
        backbone: Self = module if cls.weaver_class is None else cls(module)
        return backbone

    @property
    def readout_layers(self) -> nn.Module | None:
        """The layers on the pooled features of a jet, the last part of the readout; None: there are none.

        Only a network that has them, and puts ``globals_NG`` beside the pooled features, takes numbers of the jet.
        """
        return None

    @property
    def class_layer(self) -> str | None:
        """The name of the layer that gives a number for each class; None: it is not known."""
        own = set() if self.readout_layers is None else set(self.readout_layers.modules())
        names = [name for name, layer in self.named_modules() if layer in own and isinstance(layer, nn.Linear)]
        return names[-1] if names else None

    def take_globals(self, count: int) -> None:
        """Widen the readout, so that it takes ``count`` numbers of the jet itself. Its first layer gets new weights.

        Raises:
            UsageError: the network has no place for them.
        """
        first = _first_linear(self.readout_layers)
        if first is None:
            raise UsageError(
                f"{self.name} has no place for numbers of the jet: no layers act on pooled features; remove *_globals "
                "from the data_config, or take another network"
            )
        wider = nn.Linear(first.in_features + count, first.out_features, bias=first.bias is not None)
        first.weight, first.bias, first.in_features = wider.weight, wider.bias, wider.in_features
        first.globals_count = count  # type: ignore[assignment] # all forms of the network share the layer

    @property
    def globals_count(self) -> int:
        return int(getattr(_first_linear(self.readout_layers), "globals_count", 0))

    @property
    def record(self) -> dict[str, Any]:
        """Plain values from which :meth:`of_record` builds the same architecture. Checkpoints store them."""
        return {**self.arguments, **({_GLOBALS: self.globals_count} if self.globals_count else {})}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Self:
        """Build the architecture of a checkpoint, with fresh weights.

        Raises:
            UsageError: the network that was built is not the one that was recorded. A constructor may take a value of
                another type or an unknown name in silence, and build something else.
        """
        backbone = cls.from_arguments({name: value for name, value in record.items() if name != _GLOBALS})
        if record.get(_GLOBALS):
            backbone.take_globals(int(record[_GLOBALS]))
        for name, value in backbone.record.items():
            if name in record and plain(record[name]) != plain(value):
                raise UsageError(f"{cls.name} has no {name} = {record[name]!r}: that builds {value!r}")
        return backbone

    def modern_names(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return weights of a file that weaver wrote, under the names that weaver gives them today."""
        return weights


def plain(value: Any) -> Any:
    """Return tuples as lists, also inside of others: both are the same argument."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def _first_linear(layers: nn.Module | None) -> nn.Linear | None:
    found = () if layers is None else layers.modules()
    return next((layer for layer in found if isinstance(layer, nn.Linear)), None)


BACKBONES: Registry[type[Backbone[Any]]] = Registry("model_name", Backbone)


def macs_per_row(module: nn.Module) -> int:
    """Return the multiply-accumulates that a module spends on the channels of one particle, edge or jet.

    They are those of its linear layers and of its convolutions with a kernel of one slot, each applied once.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d)]
    return sum(layer.weight.numel() for layer in layers)
