"""What an HDF5 file holds at its root besides columns of numbers, in words for messages."""

from collections.abc import Sequence
from typing import Any

_SHOWN = 4


def other_content(file: Any) -> str:
    """Return what is at the root of an ``h5py.File``: groups and tables with names in them, texts, values, links."""
    import h5py

    own = [name for name in file if isinstance(file.get(name, getlink=True), h5py.HardLink)]
    found = [text for name in own if (text := _described(name, file[name]))]
    found += [f"the link {name}, which is not followed" for name in file if name not in own]
    return " and ".join([*found[:_SHOWN], *(["more"] if len(found) > _SHOWN else [])])


def _described(name: str, node: Any) -> str:
    from h5py import Group, h5t

    if isinstance(node, Group):
        return f"the group {name} ({_listed(list(node))})"
    kind = node.id.get_type()
    if kind.get_class() == h5t.COMPOUND:
        fields = [kind.get_member_name(index).decode(errors="replace") for index in range(kind.get_nmembers())]
        return f"the table {name} ({_listed(fields)})"
    if not node.shape:
        return f"the single value {name}"
    return f"the texts {name}" if kind.get_class() == h5t.STRING else ""


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN]) or "empty"
    return f"{shown}, …" if len(names) > _SHOWN else shown
