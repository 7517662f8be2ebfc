"""What a page loads from the network. The pages of the site load nothing; a link is followed only when clicked."""

import re
from collections.abc import Iterator
from pathlib import Path

_ADDRESS = r"(?:https?:)?//[^\"'\s)>]+"
_LOADED = (
    rf"<(?:script|img|iframe|source|embed|video|audio)\b[^>]*\s(?:src|srcset)=[\"']?({_ADDRESS})",
    rf"<link\b(?![^>]*\brel=[\"']?(?:canonical|author|license))[^>]*\shref=[\"']?({_ADDRESS})",
    rf"(?:url\(|@import\s+)\s*[\"']?({_ADDRESS})",
)


def loaded_addresses(text: str) -> list[str]:
    """Return the addresses that a page or a style sheet loads from the network."""
    return [address for pattern in _LOADED for address in re.findall(pattern, text)]


def loaded_by(folder: Path) -> Iterator[str]:
    """Yield, for each address that a file below a folder loads from the network, the file and the address."""
    for path in sorted([*folder.rglob("*.html"), *folder.rglob("*.css")]):
        for address in loaded_addresses(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(folder)} loads {address}"
