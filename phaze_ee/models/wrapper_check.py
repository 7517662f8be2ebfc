"""Whether the network that a network file returns does what the known network inside it does alone."""

import copy
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from weaver.utils.data.config import DataConfig

from phaze_ee.errors import USER_CODE_ERRORS, UsageError, one_line
from phaze_ee.input_groups import InputCollection, input_collections
from phaze_ee.models.backbone import Backbone
from phaze_ee.models.network_file import WeaverNetwork
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import JetInputs

_log = logging.getLogger(__name__)

_JETS = 6
_LIKE = 1e-2  # of the differences between jets; rounding is a thousand times less


def check_wrapper(model: nn.Module, backbone: Backbone[Any], data_config: DataConfig, source: Path) -> None:
    """Compare a network with the backbone that was taken out of it, on made-up jets.

    Exits are beside the stages of the backbone, so what a network does before or after it would be lost in silence:
    other weights would be trained, or the weights of a checkpoint would get other inputs.

    Args:
        model: what ``get_model`` returned. Networks that only pass inputs on by their names are not looked at.
        backbone: that of the known network in it, with the same weights. It takes no numbers of the jet itself yet,
            as no network of weaver does.
        data_config: the data configuration of weaver.
        source: the network file, for errors.

    Raises:
        UsageError: the answers differ by more than rounding; or the network cannot be called, and has parameters that
            the backbone has not.
    """
    if isinstance(model, WeaverNetwork) or type(model) in type(backbone).staged_classes():
        return
    collections = input_collections(data_config, str(source))
    jets = _MadeUp().jets(collections)
    # Copies, because a call leaves traces: weaver's networks count calls until they begin to trim jets.
    theirs, ours = copy.deepcopy((model, backbone))
    theirs.eval()
    with torch.inference_mode():
        try:
            theirs_NK = theirs(*as_weaver(jets, collections, data_config.input_names))
        except USER_CODE_ERRORS as error:
            if _parameter_count(model) != _parameter_count(backbone):
                raise _more(model, backbone, source, "it has parameters of its own") from error
            _log.warning(
                "%s: its network cannot be called with the inputs of the data_config (%s), so what it does beside the "
                "%s in it is unknown, and is not done here",
                source,
                one_line(error),
                backbone.name,
            )
            return
        ours_NK = Tagger(ours, []).eval()(jets)[-1]
    if not are_alike(theirs_NK, ours_NK):
        raise _more(model, backbone, source, "it gives other answers")
    if any(isinstance(child, _DropoutNd) and child.p > 0 for child in model.children()):
        _log.warning("%s: the Dropout beside its %s has no effect here", source, backbone.name)


def _more(model: nn.Module, backbone: Backbone[Any], source: Path, reason: str) -> UsageError:
    return UsageError(
        f"{source}: get_model returns a {type(model).__name__} that does more than its {backbone.name}: {reason}. Only "
        f"the {backbone.name} gets exits, so move the rest into the data_config, or make the whole a backbone of your "
        "own (docs/EXTENDING.md)"
    )


def _parameter_count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def as_weaver(jets: JetInputs, collections: Sequence[InputCollection], names: Sequence[str]) -> list[Tensor]:
    """Return the inputs in the order in which weaver passes them: that of the data configuration.

    Args:
        jets: padded jets.
        collections: their collections.
        names: the input groups of the data configuration; numbers of the jet itself are left out.
    """
    parts = zip(collections, [jets, *jets.more.values()], strict=True)
    by_name = {name: getattr(part, kind) for own, part in parts for kind, name in own.groups.items()}
    return [by_name[name] for name in names if name in by_name]


def are_alike(theirs_NK: Tensor, ours_NK: Tensor) -> bool:
    """Return whether two networks give the same answers for most jets, but for rounding.

    The differences between jets are the measure. Single jets may differ by more, where rounding changes which particles
    are nearest.
    """
    if theirs_NK.shape != ours_NK.shape:
        return False
    typical = (ours_NK - ours_NK.mean(dim=0)).abs().amax(dim=1).median()
    difference = (theirs_NK - ours_NK).abs().amax(dim=1).median()
    return bool(difference <= _LIKE * typical + 1e-6)


@final
class _MadeUp:
    """Makes jets up; random numbers of its own, so that those of a training stay as they are."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)

    def jets(self, collections: Sequence[InputCollection]) -> JetInputs:
        first, *others = [self._particles(own) for own in collections]
        names = [own.name for own in collections[1:]]
        return JetInputs(
            first.points, first.features, first.vectors, first.mask, more=dict(zip(names, others, strict=True))
        )

    def _particles(self, own: InputCollection) -> JetInputs:
        counts_N = torch.linspace(own.length, max(1, own.length // 3), _JETS).round()
        mask_N1P = (torch.arange(own.length) < counts_N[:, None]).float()[:, None]
        features, points, momenta = (self._normal(channels, mask_N1P) for channels in (own.feature_count, 2, 3))
        vectors = torch.cat([momenta, momenta.norm(dim=1, keepdim=True) * 1.01], dim=1)
        return JetInputs(points, features, vectors if "vectors" in own.groups else None, mask_N1P)

    def _normal(self, channels: int, mask_N1P: Tensor) -> Tensor:
        return torch.randn(_JETS, channels, mask_N1P.shape[2], generator=self.generator) * mask_N1P
