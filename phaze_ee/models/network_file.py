"""For network files: a network as weaver calls it, its keywords, and the information for the export to ONNX."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from torch import Tensor, nn
from weaver.utils.data.config import DataConfig

from phaze_ee.models.backbone import Backbone
from phaze_ee.models.tagger import Tagger
from phaze_ee.shapes import Float
from phaze_ee.types import JetInputs

_KINDS = ("points", "features", "vectors", "mask")
# Keywords of get_model that weaver's command adds for some of its flags.
_OF_WEAVER = ("for_inference", "use_amp", "compile_model")


@final
class WeaverNetwork(nn.Module):
    """A network that takes all inputs of the data configuration in its order, as weaver passes them.

    Args:
        mod: a network, or a backbone.
        data_config: the data configuration of weaver. The names of its inputs end with points, features, vectors, mask.
        takes: those inputs that the network takes, in its order.
        softmax: return probabilities instead of logits.
    """

    def __init__(
        self, mod: nn.Module, data_config: DataConfig, *, takes: Sequence[str] = _KINDS, softmax: bool = False
    ) -> None:
        super().__init__()
        self.mod = mod
        self.takes = tuple(takes)
        self.input_names = tuple(data_config.input_names)
        self.softmax = softmax

    def forward(self, *inputs: Tensor) -> Float[Tensor, "N K"]:
        by_kind = {_kind(name): tensor for name, tensor in zip(self.input_names, inputs, strict=True)}
        if isinstance(self.mod, Backbone):
            features = by_kind["features"]
            points = by_kind.get("points", features[:, :0])
            jets = JetInputs(points, features, by_kind.get("vectors"), by_kind["mask"])
            logits: Tensor = Tagger(self.mod, [])(jets)[-1]
        else:
            logits = self.mod(*(by_kind.get(kind) for kind in self.takes))
        return logits.softmax(dim=1) if self.softmax else logits

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters without weight decay, for the optimisers of weaver."""
        names: Callable[[], set[str]] = getattr(self.mod, "no_weight_decay", set)
        return {f"mod.{name}" for name in names()}


def input_channels(data_config: DataConfig) -> int:
    """Return how many features of a particle the data configuration has."""
    return next(len(names) for name, names in data_config.input_dicts.items() if _kind(name) == "features")


def network_keywords(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords of a network: the defaults of its file, overridden by the keywords of ``get_model``.

    Keywords that the command of weaver adds are ignored if they have no default.

    Raises:
        TypeError: a keyword is unknown.
    """
    unknown = [key for key in given if key not in (*defaults, *_OF_WEAVER)]
    if unknown:
        raise TypeError(f"unknown network option {unknown[0]!r}; choose from {', '.join(defaults)}")
    return {**defaults, **{key: value for key, value in given.items() if key in defaults}}


def export_information(data_config: DataConfig) -> dict[str, Any]:
    """Return the information with which weaver exports the network to ONNX."""
    names = list(data_config.input_names)
    return {
        "input_names": names,
        "input_shapes": {name: (1, *data_config.input_shapes[name][1:]) for name in names},
        "output_names": ["softmax"],
        "dynamic_axes": {name: {0: "N", 2: "n_particles"} for name in names} | {"softmax": {0: "N"}},
    }


def _kind(name: str) -> str:
    return name.rsplit("_", 1)[-1]
