"""Checkpoints from which a tagger is rebuilt without any other file, and weights that weaver wrote."""

import hashlib
import io
import pickle
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from phaze_ee.atomic import replacing
from phaze_ee.errors import CheckpointError
from phaze_ee.models.build import BACKBONES
from phaze_ee.models.heads import HeadShape
from phaze_ee.models.tagger import Tagger

_FORMAT = "phaze_ee.tagger"
_VERSION = 1
_NETWORK_KEYS = ("backbone", "arguments", "exit_stages", "exit_head", "state_dict")
_RECORD_KEYS = ("options", "data_options", "data_hash", "epoch", "metrics", "versions")
_SHOWN = 3

# What torch raises on files that are damaged or no checkpoints (found by cutting and changing bytes).
READ_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
)


@dataclass(frozen=True)
class Checkpoint:
    """A tagger and where it comes from; everything but the tagger is plain values."""

    tagger: Tagger
    options: dict[str, Any]
    data_options: dict[str, Any]
    data_hash: str
    epoch: int
    metrics: dict[str, float]
    versions: dict[str, str] = field(default_factory=dict)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; an older file of that name stays until the new one is complete.

    Raises:
        RunError: it could not be written.
    """
    tagger = checkpoint.tagger
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "backbone": tagger.backbone.name,
        "arguments": dict(tagger.backbone.arguments),
        "exit_stages": list(tagger.exit_stages),
        "exit_head": list(tagger.exit_heads),
        "exit_head_shape": asdict(tagger.head_shape),
        "exit_link": tagger.link.name,
        "state_dict": tagger.state_dict(),
        "options": checkpoint.options,
        "data_options": checkpoint.data_options,
        "data_hash": checkpoint.data_hash,
        "epoch": checkpoint.epoch,
        "metrics": checkpoint.metrics,
        "versions": checkpoint.versions,
    }
    # torch reports a full disk as a RuntimeError of its own; bytes written here report it as the system does.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_checkpoint(path: Path) -> Checkpoint:
    """Rebuild a tagger, on the CPU and in evaluation mode, from a file that :func:`save_checkpoint` wrote.

    Raises:
        CheckpointError: the file is missing, unreadable, or not such a checkpoint.
    """
    content = _read(path)
    if content.get("format") != _FORMAT:
        raise CheckpointError(f"{path} is not a PHAZE-EE checkpoint; weaver weights are used through c.init_from")
    if content.get("version") != _VERSION:
        raise CheckpointError(
            f"{path} has checkpoint 'version' {content.get('version')}; this program reads {_VERSION}"
        )
    lost = [key for key in (*_NETWORK_KEYS, *_RECORD_KEYS) if key not in content]
    if lost:
        raise CheckpointError(f"{path} is a damaged checkpoint: it lacks {', '.join(map(repr, lost))}")
    if content["backbone"] not in BACKBONES:
        raise CheckpointError(
            f"{path} holds a network {content['backbone']!r}; this program has {', '.join(BACKBONES)}"
        )
    backbone = BACKBONES[content["backbone"]].from_arguments(content["arguments"])
    tagger = Tagger(
        backbone,
        content["exit_stages"],
        content["exit_head"],
        # Older checkpoints know neither: their heads had the default shape and answered for themselves.
        head_shape=HeadShape(**content.get("exit_head_shape", {})),
        link=content.get("exit_link", "independent"),
    )
    _load(tagger, content["state_dict"], path)
    return Checkpoint(tagger.eval(), **{key: content[key] for key in _RECORD_KEYS})


def load_weights(tagger: Tagger, path: Path) -> None:
    """Start ``tagger`` from a checkpoint: one of ours (with its exits), or one of weaver's (the backbone alone).

    Raises:
        CheckpointError: the file is missing or unreadable, or holds weights of another architecture.
    """
    content = _read(path)
    if content.get("format") == _FORMAT:
        _load(tagger, content["state_dict"], path)
    else:
        _load(tagger.backbone, tagger.backbone.modern_names(content), path)


def weights_hash(path: Path) -> str:
    """Return the SHA-256 of a checkpoint, by which results and policies know their model."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"checkpoint {path} does not exist") from error
    except READ_ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"checkpoint {path} cannot be read: it is damaged, or holds objects other than tensors ({reason})"
        ) from error
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"checkpoint {path} holds no weights")
    return content


def _load(module: torch.nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    own = module.state_dict()
    # A wrapper around the network, or around a backbone that is its own network, names its parameters with a prefix,
    # mostly "mod."; without a wrapper there is none.
    if not any(key in own for key in weights):
        wrapped = all(key.startswith("mod.") for key in weights)
        weights = {key.removeprefix("mod.") if wrapped else f"mod.{key}": value for key, value in weights.items()}
    differences = [
        *(f"{key} is missing" for key in own if key not in weights),
        *(f"{key} is not in this network" for key in weights if key not in own),
        *(
            f"{key} has shape {tuple(weights[key].shape)}, here {tuple(own[key].shape)}"
            for key in own
            if key in weights and weights[key].shape != own[key].shape
        ),
    ]
    if differences:
        more = f" and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise CheckpointError(
            f"checkpoint {path} is of another architecture: {'; '.join(differences[:_SHOWN])}{more}; "
            "make the network options (inputs, classes, conv_params, use_fts_bn …) those it was trained with"
        )
    module.load_state_dict(dict(weights))
