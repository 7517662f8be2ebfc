"""Chooses the output file for each file of jets, and finds predictions that are complete."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from phaze_ee.errors import UsageError
from phaze_ee.prediction.writers import InputFile, Manifest, Recipe, check_columns, read_manifest


@dataclass(frozen=True)
class FileJob:
    """A file of jets, as it is now, and the file for its predictions."""

    source: Path
    output: Path
    input_file: InputFile


def plan(files: Sequence[Path], folder: Path, suffix: str) -> list[FileJob]:
    """Return one job per file, with the output ``<stem>.<suffix>`` in ``folder``.

    Where stems repeat, the names of enclosing folders are put in front until the names differ: ``a/jets.root`` becomes
    ``a_jets``. If that does not help, the suffix of the file is appended.

    Args:
        files: the files of jets.
        folder: the folder of the outputs.
        suffix: the format of the outputs, ``root`` or ``parquet``.

    Raises:
        UsageError: names still clash, an output would replace a file of jets, or ``folder`` is a file.
        DataError: a file does not exist.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; choose another --output")
    names = _distinct_names([path.absolute() for path in files])
    jobs = [
        FileJob(path, folder / f"{name}.{suffix}", InputFile.of(path)) for path, name in zip(files, names, strict=True)
    ]
    sources = {path.resolve() for path in files}
    for job in jobs:
        if job.output.resolve() in sources:
            raise UsageError(f"the predictions for {job.source} would replace the jets {job.output}; choose --output")
    return jobs


def finished(job: FileJob, recipe: Recipe, earlier: Collection[str] = ()) -> Manifest | None:
    """Return the manifest of predictions that exist and need not be made again; None if there are none.

    Args:
        job: the file.
        recipe: that of predictions which would be made now.
        earlier: the policies from which that of the recipe has moved; their predictions are kept.

    Raises:
        UsageError: predictions exist, but with another model, policy, input or other options; or they are damaged.
    """
    if not job.output.exists():
        return None
    manifest = read_manifest(job.output)
    if manifest.recipe.steps == recipe.steps and manifest.recipe.policy in earlier:
        recipe = recipe.model_copy(update={"policy": manifest.recipe.policy})
    differences = manifest.differences(recipe, job.input_file)
    if differences:
        raise UsageError(
            f"{job.output} exists and was made with {', '.join(differences)}; choose another --output, or replace it "
            "with --overwrite"
        )
    check_columns(job.output, manifest)
    return manifest


def _distinct_names(files: Sequence[Path]) -> list[str]:
    by_stem: dict[str, list[Path]] = {}
    for path in files:
        by_stem.setdefault(path.stem, []).append(path)
    names = {path: name for group in by_stem.values() for path, name in _told_apart(group).items()}
    for name, count in Counter(names.values()).items():
        if count > 1:
            raise UsageError(f"several files of jets would share the output {name}; predict them in separate runs")
    return [names[path] for path in files]


def _told_apart(files: Sequence[Path]) -> dict[Path, str]:
    """Return names for files with the same stem, with the fewest folders in front that make the names differ."""
    for with_suffix in (False, True):
        for depth in range(1, max(len(path.parts) for path in files)):
            names = {path: "_".join([*path.parts[1:-1], path.stem][-depth:]) for path in files}
            if with_suffix:
                names = {path: f"{name}_{path.suffix[1:]}" for path, name in names.items()}
            if len(set(names.values())) == len(files):
                return names
    return {path: path.stem for path in files}
