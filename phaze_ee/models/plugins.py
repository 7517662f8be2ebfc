"""Which plug-ins a checkpoint needs, and whether the parts that are registered here are the same.

A checkpoint may come from a stranger. It records the files that its parts came from, but these files never run because
a checkpoint names them: the user names them, in ``c.plugins`` or as an argument, or registers the parts.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from phaze_ee.errors import CheckpointError
from phaze_ee.models.tagger import Tagger
from phaze_ee.registry import REGISTERED, Registered, known_names
from phaze_ee.user_files import UserFile

Part = tuple[str, str]  # kind and name, as in the registry


class PlugIn(BaseModel):
    """A file and the parts of a network that it registered.

    ``path``, ``sha256`` and ``code_sha256`` are those of :class:`phaze_ee.user_files.UserFile`; None for classes of an
    interactive session.
    """

    model_config = ConfigDict(frozen=True)

    path: str | None
    sha256: str | None
    code_sha256: str | None
    parts: tuple[Part, ...]

    def is_file(self, file: UserFile | None) -> bool:
        """Return whether the classes of a file are those of the plug-in; true where the plug-in was no file."""
        if self.path is None:
            return True
        return file is not None and (self.sha256 == file.sha256 or self.code_sha256 == file.code_sha256)


def parts_of(backbone: str, exit_head: str | Iterable[str], link: str) -> list[Part]:
    """Return the parts of a network, each once."""
    heads = [exit_head] if isinstance(exit_head, str) else exit_head
    return [("model_name", backbone), *(("exit_head", head) for head in dict.fromkeys(heads)), ("exit_link", link)]


def plugins_of(tagger: Tagger) -> list[PlugIn]:
    """Return the plug-ins that a tagger needs, with the parts that each of them registered."""
    by_file: dict[UserFile | None, list[Part]] = {}
    for kind, name in parts_of(tagger.backbone.name, tagger.head_names, tagger.link.name):
        if (found := REGISTERED[kind].get(name)) is not None:
            by_file.setdefault(found.file, []).append((kind, name))
    return [_plugin(file, parts) for file, parts in by_file.items()]


def read_plugins(stored: object, path: Path) -> list[PlugIn]:
    """Return the plug-ins that a checkpoint records.

    Raises:
        CheckpointError: the record is damaged.
    """
    try:
        return TypeAdapter(list[PlugIn]).validate_python(stored)
    except ValidationError as error:
        raise CheckpointError(f"{path} is a damaged checkpoint: its 'plugins' cannot be read") from error


def unknown_parts(parts: Iterable[Part]) -> list[Part]:
    """Return the parts that are not registered in this process."""
    return [(kind, name) for kind, name in parts if name not in known_names(kind)]


def check_parts(path: Path, parts: Sequence[Part], plugins: Sequence[PlugIn], *, trust: bool) -> None:
    """Check that all parts of a checkpoint are registered, by the files that it was made with.

    Args:
        path: the checkpoint.
        parts: the parts of its network.
        plugins: the plug-ins that it records.
        trust: accept a file that is not the recorded one.

    Raises:
        CheckpointError: a part is unknown, or its file has changed since.
    """
    source = {part: plugin for plugin in plugins for part in plugin.parts}
    for kind, name in unknown_parts(parts):
        raise CheckpointError(
            f"{path} needs the {kind} {name!r}, which is unknown here; {_remedy(source.get((kind, name)))}"
        )
    for kind, name in parts:
        plugin, found = source.get((kind, name)), REGISTERED[kind].get(name)
        if plugin is not None and found is not None and not trust and not plugin.is_file(found.file):
            raise CheckpointError(_other_file(path, (kind, name), plugin, found))


def _plugin(file: UserFile | None, parts: list[Part]) -> PlugIn:
    if file is None:
        return PlugIn(path=None, sha256=None, code_sha256=None, parts=tuple(parts))
    return PlugIn(path=file.path, sha256=file.sha256, code_sha256=file.code_sha256, parts=tuple(parts))


def _remedy(plugin: PlugIn | None) -> str:
    if plugin is None:
        return "the checkpoint does not say where it comes from: name the file that registers it in c.plugins"
    if plugin.path is None:
        return "it was registered in an interactive session: register the class again with phaze_ee.register"
    return (
        f"the checkpoint says that it comes from {plugin.path}: if you trust this file, name it in c.plugins, or in "
        "plugins=[...] of phaze_ee.load"
    )


def _other_file(path: Path, part: Part, plugin: PlugIn, found: Registered) -> str:
    kind, name = part
    return (
        f"{path} was made with another version of the {kind} {name!r}: it records {plugin.path} with SHA-256 "
        f"{str(plugin.sha256)[:12]}…, and here it is {found.place}{_hash_of(found)}; restore that file, or accept "
        "the change with --trust (trust=True of phaze_ee.load)"
    )


def _hash_of(found: Registered) -> str:
    return "" if found.file is None else f" with SHA-256 {found.file.sha256[:12]}…"
