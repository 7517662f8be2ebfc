"""Whether an engine can take what a user gives: jets whose tensors agree, with the features of the network."""

from collections.abc import Mapping

import torch
from torch import Tensor

from phaze_ee.errors import UsageError
from phaze_ee.models.merged import OF_WEAVER, in_their_order
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import GLOBALS, JetInputs, Jets, RaggedJets


def check_jets(tagger: Tagger, jets: object) -> None:
    """Refuse what a network could only fail on. The numbers of particles are not looked at.

    Args:
        tagger: the network.
        jets: what was given.

    Raises:
        UsageError: it is not jets, tensors have different numbers of jets or particles, or the network takes another
            number of features, another type, or is on another device.
    """
    if not isinstance(jets, JetInputs | RaggedJets):
        if not hasattr(jets, "total_count_N"):  # as features of a frozen network have, and the values of a file
            raise UsageError(
                f"an Engine takes jets, and was given a {type(jets).__name__}: give phaze_ee.JetInputs(points, "
                "features, vectors, mask)"
            )
        return
    taken = tagger.backbone.collections
    first = next(iter(taken.values()), tagger.backbone.input_channels)
    _check_collection(jets, first, "")
    if GLOBALS in jets.more:
        _check_collection(jets.more[GLOBALS], None, f" of {GLOBALS}")
    _check_more(taken, {name: own for name, own in jets.more.items() if name != GLOBALS})
    features = jets.features if isinstance(jets, JetInputs) else jets.features_VC
    weight = next(tagger.parameters(), None)
    if weight is not None:
        _check_place(features, weight)


def _check_more(taken: Mapping[str, int], more: Mapping[str, Jets]) -> None:
    unknown = [name for name in more if name not in taken]
    any_names = tuple(taken) == OF_WEAVER and len(more) + 1 == len(taken)
    if unknown and not any_names:
        raise UsageError(f"the network takes no collection {unknown[0]!r}, and the jets have one; leave it out")
    names = in_their_order(taken, {name: name for name in more}) if taken else []
    for name, channels in zip(names, list(taken.values())[1:], strict=False):
        _check_collection(more[name], channels, f" of {name}")


def _check_place(features: Tensor, weight: Tensor) -> None:
    if (features.dtype, weight.dtype) == (torch.float64, torch.float32):
        raise UsageError(
            f"the features are in {features.dtype} and the network is in {weight.dtype}; give jets with tensors in "
            f"{weight.dtype}"
        )
    if features.device != weight.device:
        raise UsageError(
            f"the jets are on {features.device} and the network is on {weight.device}; give "
            f"jets.to({str(weight.device)!r})"
        )


def _check_collection(jets: Jets, channels: int | None, which: str) -> None:
    given: dict[str, object] = (
        {"points": jets.points, "features": jets.features, "vectors": jets.vectors, "mask": jets.mask}
        if isinstance(jets, JetInputs)
        else {"points_V2": jets.points_V2, "features_VC": jets.features_VC, "vectors_V4": jets.vectors_V4}
    )
    tensors = {name: value for name, value in given.items() if isinstance(value, Tensor)}
    for name, value in given.items():
        if name not in tensors and not (value is None and name.startswith("vectors")):
            kind = "None" if value is None else f"a {type(value).__name__}"
            raise UsageError(f"{name}{which} is {kind}, not a tensor; torch.from_numpy makes one of an array")
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    dimensions = 3 if isinstance(jets, JetInputs) else 2
    if any(len(shape) != dimensions for shape in shapes.values()) or len({s[:1] + s[2:] for s in shapes.values()}) > 1:
        raise UsageError(
            f"the tensors{which} do not have the same jets and particles: {_listed(shapes)}; give "
            f"{'(jets, channels, particles)' if dimensions == 3 else '(particles, channels)'} of the same jets"
        )
    name, shape = next((name, shape) for name, shape in shapes.items() if name.startswith("features"))
    if channels is not None and shape[1] != channels:
        raise UsageError(
            f"the network takes {channels} features of each particle{which}, and {name} has the shape {shape}: give "
            "the features of the data config, in its order"
        )


def _listed(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())
