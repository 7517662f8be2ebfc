"""Names of outputs: they depend on the files of jets and on what is in the folder, and never change once written."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from phaze_ee.errors import UsageError
from phaze_ee.prediction.writers import InputFile, Manifest, read_manifest


@dataclass
class Outputs:
    """The folder of the outputs in one format.

    Attributes:
        folder: the folder.
        suffix: the format, ``root`` or ``parquet``.
        manifests: those that were read, by the names of outputs; None: there is none that can be read.
    """

    folder: Path
    suffix: str
    manifests: dict[str, Manifest | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ending = f".{self.suffix}"
        listed = self.folder.iterdir() if self.folder.is_dir() else ()
        self._present = {path.name.removesuffix(ending) for path in listed if path.suffix == ending}

    def has(self, name: str) -> bool:
        """Return whether there is an output of a name, of whatever kind."""
        return name in self._present

    def manifest(self, name: str) -> Manifest | None:
        """Return the manifest of the output of a name; None if there is none that can be read."""
        if self.has(name) and name not in self.manifests:
            self.manifests[name] = None
            with suppress(UsageError):
                self.manifests[name] = read_manifest(self.folder / f"{name}.{self.suffix}")
        return self.manifests.get(name)

    def of(self, path: Path, now: InputFile, *, by_path: bool) -> str | None:
        """Return the name under which a file of jets was predicted before; None if it was not.

        Args:
            path: the file.
            now: the file, as it is.
            by_path: whether only the same path tells; False: as :func:`is_of`.

        Raises:
            UsageError: it was predicted under two names.
        """
        found = [
            name
            for name in _candidates(path)
            if (manifest := self.manifest(name)) is not None
            and (manifest.input.path == now.path if by_path else is_of(manifest.input, path, now))
        ]
        if len(found) > 1:
            first, second = (f"{name}.{self.suffix}" for name in found[:2])
            raise UsageError(f"{self.folder} has predictions of {path} twice, {first} and {second}; remove one of them")
        return found[0] if found else None

    def unreadable(self, path: Path) -> list[str]:
        """Return the names that a file may get under which there is something without a manifest that can be read."""
        return [name for name in _candidates(path) if self.has(name) and self.manifest(name) is None]


def is_of(made: InputFile, path: Path, now: InputFile) -> bool:
    """Return whether predictions of a file are of this one: its path is the same, or it was moved, or is a link.

    Args:
        made: the file of the predictions, as it was.
        path: this file.
        now: this file, as it is.
    """
    if made.path == now.path:
        return True
    if Path(made.path).name != path.name:
        return False
    try:
        return path.samefile(made.path)
    except OSError:  # the other is gone
        return (made.size, made.changed_ns) == (now.size, now.changed_ns)


def output_names(files: Mapping[Path, InputFile], outputs: Outputs) -> dict[Path, str]:
    """Return a name for the output of each file, by its absolute path: that of its predictions, or else a new one.

    A new name is the stem. Where files share it, or something else in the folder has it, the names of enclosing folders
    are put in front until the names differ: ``a/jets.root`` becomes ``a_jets``. If that does not help, the suffix of
    the file is appended.

    Raises:
        UsageError: names still clash, or a file was predicted under two names.
    """
    names: dict[Path, str] = {}
    for by_path in (True, False):
        known = {path: outputs.of(path, now, by_path=by_path) for path, now in files.items() if path not in names}
        taken = {*names.values()}
        free = {name: path for path, name in known.items() if name is not None and name not in taken}
        names |= {path: name for name, path in free.items()}
    others = [path for path in files if path not in names]
    claims = {path: outputs.unreadable(path) for path in others}
    claimed = Counter(name for own in claims.values() for name in own)
    # A file that is damaged may be its output. It is refused later, or replaced: beside a new one, jets would be twice.
    names |= {path: name for path, own in claims.items() for name in own if claimed[name] == 1}
    by_stem: dict[str, list[Path]] = {}
    for path in others:
        if path not in names:
            by_stem.setdefault(path.stem, []).append(path)
    for group in sorted(by_stem.values(), key=len):  # what has a name of its own gets it
        names |= _told_apart(group, {*names.values()}, outputs)
    return names


def _told_apart(files: Sequence[Path], taken: set[str], outputs: Outputs) -> dict[Path, str]:
    """Return names for files with the same stem, with the fewest folders in front that make the names differ."""
    depth = max(len(path.parts) for path in files)
    for names in zip(*(_names(path, depth) for path in files), strict=True):
        if len({*names} - taken) == len(files) and not any(map(outputs.has, names)):
            return dict(zip(files, names, strict=True))
    raise UsageError(f"several files of jets would share the output {files[0].stem}; predict them in separate runs")


def _candidates(path: Path) -> Iterator[str]:
    """Yield the names that a file may get, each once."""
    return _names(path, len(path.parts))


def _names(path: Path, depth: int) -> Iterator[str]:
    """Yield names with up to ``depth`` parts of a path; then with the suffix too."""
    parts = [*path.parts[1:-1], path.stem]
    for ending in ("", f"_{path.suffix[1:]}"):
        for count in range(1, depth):
            yield "_".join(parts[-count:]) + ending
