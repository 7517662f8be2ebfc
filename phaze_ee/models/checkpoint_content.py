"""The content of checkpoints: read as tensors and plain values, and checked by checksum and type."""

import hashlib
import io
import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from phaze_ee.errors import CheckpointError
from phaze_ee.names import brief

FORMAT = "phaze_ee.tagger"
VERSION = 1
_NETWORK_KEYS = ("backbone", "arguments", "exit_stages", "exit_head", "state_dict")
RECORD_KEYS = ("options", "data_options", "data_hash", "epoch", "metrics", "versions")
# What older checkpoints lack: their heads had the default shape and answered for themselves, without plug-ins.
_DEFAULTS: Mapping[str, Any] = {"exit_head_shape": {}, "exit_link": "independent", "plugins": (), "targets": 0}
UNWRAPPED = ("_orig_mod", "module", "_orig_mod")  # what torch.compile and training on several devices put before names
_SHOWN = 80  # characters of the names in a message

# What torch raises for damaged files and other files (found by cutting files and changing bytes).
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
    zipfile.BadZipFile,
    zlib.error,
)


class _Content(BaseModel):
    """The types of what a checkpoint holds."""

    model_config = ConfigDict(strict=True, arbitrary_types_allowed=True)

    backbone: str
    arguments: dict[str, Any]
    exit_stages: list[int | Literal["input"]]
    exit_head: str | list[str]
    exit_head_shape: dict[str, int]
    exit_link: str
    targets: Annotated[int, Field(ge=0)]
    state_dict: dict[str, Tensor]
    options: dict[str, Any]
    data_options: dict[str, Any]
    data_hash: str
    epoch: int
    metrics: dict[str, float]
    versions: dict[str, str]


def archive(content: Mapping[str, Any]) -> bytes:
    """Return what torch saves for this content, to be written by the caller.

    For a full disk torch raises a RuntimeError of its own; writing bytes raises the OSError of the system. The bytes
    are no view of a buffer: Python 3.12.1 crashes if an error keeps such a view.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def read_plain(path: Path) -> tuple[dict[str, Any], str]:
    """Return what torch wrote into a file, and the SHA-256 of the file, both from the same bytes.

    Only tensors and plain values are read.

    Raises:
        OSError: the file cannot be read; or another of ``READ_ERRORS``: it is damaged, or holds other objects.
    """
    data = path.read_bytes()
    content = torch.load(io.BytesIO(_checked(data)), map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        raise TypeError("it holds no weights")
    return content, hashlib.sha256(data).hexdigest()


def read(path: Path) -> tuple[dict[str, Any], str]:
    """Return the content of a checkpoint of PHAZE-EE or of weaver, and the SHA-256 of the file.

    Raises:
        CheckpointError: the file is missing, cannot be read, or holds no weights.
    """
    try:
        with warnings.catch_warnings():
            # Plain pickles, which are refused below with their own message.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            content, digest = read_plain(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"checkpoint {path} does not exist") from error
    except READ_ERRORS as error:
        # torch advises to load pickles unchecked; this advice must not reach the user.
        lines = [] if isinstance(error, pickle.UnpicklingError) else str(error).splitlines()
        reason = lines[0] if lines else type(error).__name__
        raise CheckpointError(
            f"checkpoint {path} cannot be read: it is not a checkpoint, is damaged, or holds objects other than "
            f"tensors ({reason}); give another file"
        ) from error
    if not content or not all(isinstance(key, str) for key in content):
        raise CheckpointError(f"checkpoint {path} holds no weights")
    if is_tagger(content):
        return content, digest
    if not any(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(
            f"checkpoint {path} holds no weights, but {brief(', '.join(content), _SHOWN)}; give a file of the weights "
            "alone, as weaver writes it: *_state.pt"
        )
    return _unwrapped(content), digest


def _unwrapped(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return weights without what is put before their names."""
    weights = dict(content)
    for part in UNWRAPPED:
        consume_prefix_in_state_dict_if_present(weights, f"{part}.")
    return weights


def read_tagger(path: Path) -> tuple[dict[str, Any], str]:
    """Return the content and the hash of a checkpoint of PHAZE-EE. Keys that older ones lack have their defaults.

    Raises:
        CheckpointError: the file is missing, unreadable, or not such a checkpoint.
    """
    content, digest = read(path)
    if not is_tagger(content):
        raise CheckpointError(f"{path} is not a PHAZE-EE checkpoint; mode retrofit and c.init_from take weaver weights")
    version = content.get("version")
    if not isinstance(version, int) or version != VERSION:
        raise CheckpointError(f"{path} has checkpoint 'version' {version}; this program reads {VERSION}")
    lost = [key for key in (*_NETWORK_KEYS, *RECORD_KEYS) if key not in content]
    if lost:
        raise CheckpointError(f"{path} is a damaged checkpoint: it lacks {', '.join(map(repr, lost))}")
    content = {**_DEFAULTS, **content}
    _check_types(content, path)
    return content, digest


def is_tagger(content: Mapping[str, Any]) -> bool:
    """Whether :func:`phaze_ee.models.checkpoint.save_checkpoint` wrote this content. Weaver writes only the weights."""
    return content.get("format") == FORMAT


def _checked(data: bytes) -> bytes:
    """Return an archive with the same entries, written anew after each checksum was compared.

    torch compares no checksums, and its reader takes more from the table of contents than zipfile does: an entry whose
    damaged attributes say that it is a folder is memory that nobody wrote. So torch reads only archives made here.
    """
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return data  # a plain pickle, which torch refuses or reads without an archive
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return _written_anew(data)
    except UserWarning as error:  # entries that overlap, in Python 3.14
        raise zipfile.BadZipFile(str(error)) from error


def _written_anew(data: bytes) -> bytes:
    checked = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(checked, "w") as new:
        if damaged := old.testzip():
            raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")
        names = old.namelist()
        if len(set(names)) < len(names):
            raise zipfile.BadZipFile("an entry is there twice")
        for name in names:
            new.writestr(name, old.read(name))
    return checked.getvalue()


def _check_types(content: Mapping[str, Any], path: Path) -> None:
    try:
        _Content.model_validate({key: content[key] for key in _Content.model_fields})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise CheckpointError(f"{path} is a damaged checkpoint: {where}: {first['msg']}; give another file") from error
