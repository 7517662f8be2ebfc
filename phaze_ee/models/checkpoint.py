"""Checkpoints, from which a tagger is rebuilt, and weights that weaver wrote.

A checkpoint rebuilds its network, not the configuration: what changed in the configuration since the training has no
effect on evaluation.
"""

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor

from phaze_ee.atomic import replacing
from phaze_ee.errors import USER_CODE_ERRORS, CheckpointError, UsageError, is_out_of_memory, one_line
from phaze_ee.models.backbone import BACKBONES, Backbone
from phaze_ee.models.bounded import BoundedTensors
from phaze_ee.models.checkpoint_content import (
    FORMAT,
    READ_ERRORS,
    RECORD_KEYS,
    VERSION,
    archive,
    is_tagger,
    read,
    read_tagger,
)
from phaze_ee.models.heads import HeadShape
from phaze_ee.models.layers_by_name import check_layers, is_in
from phaze_ee.models.plugins import check_parts, parts_of, plugins_of, read_plugins, unknown_parts
from phaze_ee.models.tagger import Tagger
from phaze_ee.names import quantity

_log = logging.getLogger(__name__)
_SHOWN = 3
# Where networks take the features of particles: the axis of a weight, and how often each feature is there.
_FIRST_LAYERS = {
    "edge_convs.0.convs.0.weight": (1, 2),  # ParticleNet
    "embed.input_bn.weight": (0, 1),  # Particle Transformer
    "node_encode.0.weight": (0, 1),  # ParticleNeXt
    "node_encode.weight": (0, 1),
    "particle_layers.0.0.weight": (1, 1),  # PFN
}


@dataclass(frozen=True)
class Checkpoint:
    """A tagger and how it was trained; everything but the tagger is plain values.

    ``hash`` is the SHA-256 of the file that the checkpoint was read from, empty if it was not read from a file.
    """

    tagger: Tagger
    options: dict[str, Any]
    data_options: dict[str, Any]
    data_hash: str
    epoch: int
    metrics: dict[str, float]
    versions: dict[str, str] = field(default_factory=dict)
    hash: str = ""


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint. An older file of the same name stays until the new one is complete.

    Raises:
        RunError: it could not be written.
    """
    tagger = checkpoint.tagger
    content = {
        "format": FORMAT,
        "version": VERSION,
        "backbone": tagger.backbone.name,
        "arguments": tagger.architecture.record,
        "exit_stages": list(tagger.exit_stages),
        "exit_head": list(tagger.head_names),
        "exit_head_shape": asdict(tagger.head_shape),
        "exit_link": tagger.link.name,
        "plugins": [plugin.model_dump() for plugin in plugins_of(tagger)],
        **({"targets": tagger.target_count} if tagger.target_count else {}),
        "state_dict": tagger.state_dict(),
        "options": checkpoint.options,
        "data_options": checkpoint.data_options,
        "data_hash": checkpoint.data_hash,
        "epoch": checkpoint.epoch,
        "metrics": checkpoint.metrics,
        "versions": checkpoint.versions,
    }
    with replacing(path) as temporary:
        temporary.write_bytes(archive(content))


def load_checkpoint(
    path: Path, *, trust: bool = False, register_parts: Callable[[], object] | None = None
) -> Checkpoint:
    """Rebuild a tagger, on the CPU and in evaluation mode, from a file that :func:`save_checkpoint` wrote.

    A checkpoint never makes a Python file run. Parts of plug-ins must be registered, from the files that it records.

    Args:
        path: the checkpoint.
        trust: accept parts of a plug-in that has changed since the checkpoint was written.
        register_parts: called if the checkpoint needs parts that are not registered yet.

    Raises:
        CheckpointError: the file is missing, unreadable, or not such a checkpoint; or it needs a part that is not
            registered, or was registered by a file that has changed.
    """
    content, digest = read_tagger(path)
    parts = parts_of(content["backbone"], content["exit_head"], content["exit_link"])
    if register_parts is not None and unknown_parts(parts):
        register_parts()
    check_parts(path, parts, read_plugins(content["plugins"], path), trust=trust)
    tagger = _built(content, path)
    _load(tagger, content["state_dict"], path)
    return Checkpoint(tagger.eval(), **{key: content[key] for key in RECORD_KEYS}, hash=digest)


def _built(content: Mapping[str, Any], path: Path) -> Tagger:
    """Build the network that a checkpoint describes, with fresh weights."""
    try:
        with warnings.catch_warnings(), BoundedTensors(content["state_dict"].values()):
            # Layers without channels, which are refused below with their own message.
            warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
            return Tagger(
                BACKBONES[content["backbone"]].of_record(content["arguments"]),
                content["exit_stages"],
                content["exit_head"],
                head_shape=HeadShape(**content["exit_head_shape"]),
                link=content["exit_link"],
                targets=content["targets"],
            )
    except (*READ_ERRORS, *USER_CODE_ERRORS, UsageError, CheckpointError) as error:
        if is_out_of_memory(error):
            raise
        raise CheckpointError(
            f"{path} is a damaged checkpoint: its network cannot be built ({one_line(error)}); give another file"
        ) from error


def stored_data_options(path: Path) -> dict[str, Any]:
    """Return the data configuration that a checkpoint holds. No part of its network need be registered.

    Raises:
        CheckpointError: the file is missing, unreadable, or not a checkpoint of ours.
    """
    options: dict[str, Any] = read_tagger(path)[0]["data_options"]
    return options


def load_weights(tagger: Tagger, path: Path, fresh: Sequence[str] = ()) -> str:
    """Load weights into ``tagger`` from a checkpoint of PHAZE-EE, or of weaver, which holds the backbone alone.

    The exits of a checkpoint are used if they are of the same kinds at the same stages; otherwise there is a warning.

    Args:
        tagger: the network with exits.
        path: the checkpoint.
        fresh: layers that keep the weights that they have, by their names.

    Returns:
        The SHA-256 of the file.

    Raises:
        CheckpointError: the file is missing or unreadable, or holds weights of another architecture.
        UsageError: the network has no such layer.
    """
    check_layers("fresh_layers", fresh, tagger.state_dict())
    content, digest = read(path)
    _check_targets(tagger, content, path)
    if is_tagger(content):
        weights = _weights(content, path)
        if _has_exits_of(tagger, content, weights):
            _load(tagger, weights, path, fresh)
            return digest
        _log.warning(
            "%s has other exits than this network: only its backbone is used, and the exits start with initial weights",
            path,
        )
        if tagger.targets is not None:
            _load(tagger.targets, {f"{name}_R": weights[f"targets.{name}_R"] for name in ("center", "spread")}, path)
    _load_backbone(tagger.architecture, content, path, fresh)
    return digest


def _check_targets(tagger: Tagger, content: Mapping[str, Any], path: Path) -> None:
    """Refuse weights whose last outputs are not the targets of the network, in a known scale."""
    found = content.get("targets", 0) if is_tagger(content) else 0
    if found != tagger.target_count:
        described = f"has {found or 'no'} targets" if is_tagger(content) else "is weaver's and says nothing of targets"
        raise CheckpointError(
            f"checkpoint {path} {described}, and labels.targets of the data_config has {tagger.target_count or 'none'}"
            "; make the targets those of its training"
        )


def load_backbone(backbone: Backbone[Any], path: Path) -> None:
    """Load only the backbone from a checkpoint of PHAZE-EE or of weaver.

    Raises:
        CheckpointError: the file is missing or unreadable, or holds weights of another architecture.
    """
    _load_backbone(backbone, read(path)[0], path)


def _load_backbone(backbone: Backbone[Any], content: Mapping[str, Any], path: Path, fresh: Sequence[str] = ()) -> None:
    if is_tagger(content):
        own, prefix = _weights(content, path), "backbone."
        weights = {key.removeprefix(prefix): value for key, value in own.items() if key.startswith(prefix)}
        _load(backbone, weights, path, fresh)
    else:
        _load(backbone, by_our_names(backbone, content), path, fresh)


def by_our_names(backbone: Backbone[Any], content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return weights of a file that weaver wrote by the names that they have in a backbone, as far as they are known.

    A module around the network gives its weights a prefix, usually ``mod.``; without such a module there is none.
    """
    own, (first, *others) = backbone.state_dict(), {key.partition(".")[0] for key in content} or {""}
    bare = content if others else {key.removeprefix(f"{first}."): value for key, value in content.items()}
    for prefix, weights in (("", content), ("", bare), ("mod.", content), ("mod.", bare)):
        by_name = {prefix + key: value for key, value in weights.items()}
        named = {backbone.names_in_wrapper.get(key, key): value for key, value in by_name.items()}
        found = backbone.modern_names(named)
        if any(key in own for key in found):
            return found
    return content


def _weights(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    try:
        return TypeAdapter(
            dict[str, Tensor], config=ConfigDict(strict=True, arbitrary_types_allowed=True)
        ).validate_python(content.get("state_dict", {}))
    except ValidationError as error:
        raise CheckpointError(f"{path} is a damaged checkpoint: its 'state_dict' holds no weights") from error


def _has_exits_of(tagger: Tagger, content: Mapping[str, Any], weights: Mapping[str, Tensor]) -> bool:
    """Return whether the exits of a checkpoint sit at the stages of these, and compute the same from their weights."""
    heads, stages = content.get("exit_head"), content.get("exit_stages")
    theirs = [heads] * len(tagger.head_names) if isinstance(heads, str) else heads
    same_kinds = theirs == list(tagger.head_names) and content.get("exit_link", "independent") == tagger.link.name
    return (
        same_kinds and stages == list(tagger.exit_stages) and _exit_shapes(weights) == _exit_shapes(tagger.state_dict())
    )


def _exit_shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in weights.items() if not key.startswith("backbone.")}


def _load(module: torch.nn.Module, weights: Mapping[str, Tensor], path: Path, fresh: Sequence[str] = ()) -> None:
    own = module.state_dict()
    own, weights = ({key: value for key, value in some.items() if not is_in(key, fresh)} for some in (own, weights))
    _check_features(weights, own, path)
    differences = [
        *(f"{key} is missing" for key in own if key not in weights),
        *(f"{key} is not in this network" for key in weights if key not in own),
        *(
            f"{key} has shape {_shape(weights[key])}, here {_shape(own[key])}"
            for key in own
            if key in weights and _shape(weights[key]) != _shape(own[key])
        ),
    ]
    if differences:
        more = f" and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        layers = sorted({text.partition(" ")[0].rpartition(".")[0].removeprefix("backbone.") for text in differences})
        only_head = all(is_in(layer, _head_of(module)) for layer in layers)
        afresh = f"c.fresh_layers = {layers} (in a command of weaver: --exclude-model-weights)"
        head = f"; for other classes, start the head afresh: {afresh}" if only_head else ""
        raise CheckpointError(
            f"checkpoint {path} is of another architecture: {'; '.join(differences[:_SHOWN])}{more}; "
            f"make the network options (model_name, inputs, classes, conv_params …) those of its training{head}"
        )
    _check_finite(weights, path)
    module.load_state_dict(weights, strict=not fresh)


def _head_of(module: torch.nn.Module) -> list[str]:
    """Return the name of the layers that give the numbers of the classes; empty if they are not known."""
    backbone = module.architecture if isinstance(module, Tagger) else module
    layers = backbone.readout_layers if isinstance(backbone, Backbone) else None
    return [name for name, own in backbone.named_modules() if own is layers]


def _check_finite(weights: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights of a training that diverged, or a file that was damaged: they answer nothing but NaN."""
    bad = [key for key, value in weights.items() if not bool(torch.isfinite(value).all())]
    if bad:
        more = f", and {quantity(len(bad) - 1, 'other tensor')}" if len(bad) > 1 else ""
        raise CheckpointError(
            f"checkpoint {path} has weights that are not finite: {bad[0]} holds NaN or infinity{more}; its training "
            "went wrong or the file is damaged, so take one of an earlier epoch"
        )


def _check_features(weights: Mapping[str, Any], own: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights for another number of features: other differences follow from that."""
    for key in (key for key in own if key.endswith(tuple(_FIRST_LAYERS))):
        theirs, ours = getattr(weights.get(key), "shape", ()), own[key].shape
        axis, times = next(place for name, place in _FIRST_LAYERS.items() if key.endswith(name))
        if len(theirs) == len(ours) and theirs[axis] != ours[axis]:
            raise CheckpointError(
                f"checkpoint {path} is of another architecture: its network takes {theirs[axis] // times} features of "
                f"a particle, and the inputs of the data_config give {ours[axis] // times}; set c.data_config to that "
                "of its training, or choose other weights"
            )


def _shape(value: Any) -> str:
    """Return the shape of a tensor in words, with its type where weights cannot have it."""
    if not isinstance(value, Tensor):
        return "none"
    plain = value.layout is torch.strided and not (value.is_meta or value.is_quantized or value.is_complex())
    kind = "" if plain and value.dtype is not torch.bool else f" of {value.dtype} on {value.device}"
    return f"{tuple(value.shape)}{kind}"
