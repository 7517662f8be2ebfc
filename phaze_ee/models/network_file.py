"""For network files: a network as weaver calls it, its keywords, and the information for the export to ONNX."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, final

from torch import Tensor, nn
from weaver.utils.data.config import DataConfig

from phaze_ee.errors import UsageError
from phaze_ee.input_groups import KINDS, input_collections, jet_globals
from phaze_ee.models.backbone import Backbone
from phaze_ee.models.tagger import Tagger
from phaze_ee.shapes import Float
from phaze_ee.types import JetInputs, Jets, with_globals

# Keywords of get_model that weaver's command adds for some of its flags.
_OF_WEAVER = ("for_inference", "use_amp", "compile_model")


@final
class WeaverNetwork(nn.Module):
    """A network that takes all inputs of the data configuration in its order, as weaver passes them.

    Args:
        mod: a network, or a backbone.
        data_config: the data configuration of weaver. The names of its inputs end with points, features, vectors, mask.
        takes: those inputs that the network takes of each collection, in its order.
        softmax: return probabilities instead of logits.
    """

    def __init__(
        self, mod: nn.Module, data_config: DataConfig, *, takes: Sequence[str] = KINDS, softmax: bool = False
    ) -> None:
        super().__init__()
        self.mod = mod
        self.takes = tuple(takes)
        self.input_names = tuple(data_config.input_names)
        self.collections = input_collections(data_config, "data_config")
        self.globals = jet_globals(data_config, "data_config")
        self.softmax = softmax

    def forward(self, *inputs: Tensor) -> Float[Tensor, "N K"]:
        tensors = dict(zip(self.input_names, inputs, strict=True))
        parts = [{kind: tensors[name] for kind, name in own.groups.items()} for own in self.collections]
        if self.globals is not None and not isinstance(self.mod, Backbone):
            raise UsageError(
                f"weaver's {type(self.mod).__name__} takes no numbers of the jet itself (*_globals); build it by "
                "phaze_ee.models.build, which widens its readout"
            )
        if isinstance(self.mod, Backbone):
            logits: Tensor = Tagger(self.mod, [])(self._jets(parts, tensors))[-1]
        else:
            logits = self.mod(*(part.get(kind) for part in parts for kind in self.takes))
        return logits.softmax(dim=1) if self.softmax else logits

    def _jets(self, parts: Sequence[Mapping[str, Tensor]], tensors: Mapping[str, Tensor]) -> Jets:
        first, *others = [
            JetInputs(part.get("points", part["features"][:, :0]), part["features"], part.get("vectors"), part["mask"])
            for part in parts
        ]
        names = [own.name for own in self.collections[1:]]
        jets = replace(first, more=dict(zip(names, others, strict=True)))
        if self.globals is None:
            return jets
        numbers = tensors[self.globals.groups["features"]]  # weaver passes (N,) where it is one
        return with_globals(jets, numbers.reshape(len(jets), -1))

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters without weight decay, for the optimisers of weaver."""
        names: Callable[[], set[str]] = getattr(self.mod, "no_weight_decay", set)
        return {f"mod.{name}" for name in names()}


def input_channels(data_config: DataConfig) -> int:
    """Return how many features a particle of the first collection of the data configuration has."""
    return input_collections(data_config, "data_config")[0].feature_count


def collection_channels(data_config: DataConfig) -> dict[str, int]:
    """Return how many features a particle of each collection of the data configuration has."""
    return {own.name: own.feature_count for own in input_collections(data_config, "data_config")}


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


def collection_keywords(
    data_config: DataConfig, defaults: Mapping[str, Any], given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the keywords of a network on several collections, and those of its embeddings.

    ``get_model`` takes two more keywords than the defaults: ``trim``, and for each collection NAME
    ``NAME_input_dropout``, as weaver's networks for two collections do.

    Args:
        data_config: the data configuration of weaver.
        defaults: the keywords of the network.
        given: the keywords of ``get_model``.

    Raises:
        TypeError: a keyword is unknown.
    """
    channels = collection_channels(data_config)
    rates = {name: f"{name}_input_dropout" for name in channels}
    more = {"trim": True, **dict.fromkeys(rates.values())}
    keywords = network_keywords({**defaults, **more}, given)
    own = {key: keywords.pop(key) for key in more}
    dropouts = {name: own[key] for name, key in rates.items()}
    return keywords, {"channels": channels, "input_dropout": dropouts, "trims": own["trim"]}


def export_information(data_config: DataConfig) -> dict[str, Any]:
    """Return the information with which weaver exports the network to ONNX."""
    names = list(data_config.input_names)
    return {
        "input_names": names,
        "input_shapes": {name: (1, *data_config.input_shapes[name][1:]) for name in names},
        "output_names": ["softmax"],
        "dynamic_axes": {name: {0: "N", 2: "n_particles"} for name in names} | {"softmax": {0: "N"}},
    }
