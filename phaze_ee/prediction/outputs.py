"""Which file holds the predictions for which file of jets, and what is done already."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from phaze_ee.errors import UsageError
from phaze_ee.prediction.manifest import InputFile, Manifest, Recipe
from phaze_ee.prediction.writers import read_manifest


@dataclass(frozen=True)
class FileJob:
    """A file of jets, as it is now, and the file that its predictions go to."""

    source: Path
    output: Path
    input_file: InputFile


def plan(files: Sequence[Path], folder: Path, suffix: str) -> list[FileJob]:
    """Return one job a file: ``<stem>.<suffix>`` in ``folder``.

    Where stems repeat, the folders below the deepest common one go in front, ``a/jets.root`` becomes ``a_jets``, and
    where that does not tell the files apart, the suffix goes behind.

    Raises:
        UsageError: names still clash, or an output would replace a file of jets.
        DataError: a file does not exist.
    """
    names = _distinct_names([path.absolute() for path in files])
    jobs = [
        FileJob(path, folder / f"{name}.{suffix}", InputFile.of(path)) for path, name in zip(files, names, strict=True)
    ]
    sources = {path.resolve() for path in files}
    for job in jobs:
        if job.output.resolve() in sources:
            raise UsageError(f"the predictions for {job.source} would replace the jets {job.output}; choose --output")
    return jobs


def finished(job: FileJob, recipe: Recipe) -> Manifest | None:
    """Return the manifest of predictions that need not be made again; None where there are none yet.

    Raises:
        UsageError: there are predictions, but of another model, policy, input or choice.
    """
    if not job.output.exists():
        return None
    manifest = read_manifest(job.output)
    differences = manifest.differences(recipe, job.input_file)
    if differences:
        raise UsageError(
            f"{job.output} exists and was made with {', '.join(differences)}; choose another --output, or replace it "
            "with --overwrite"
        )
    return manifest


def _distinct_names(files: Sequence[Path]) -> list[str]:
    names = [path.stem for path in files]
    common = Path(os.path.commonpath([path.parent for path in files])) if files else Path()
    for longer in (
        ["_".join(path.relative_to(common).with_suffix("").parts) for path in files],
        ["_".join([*path.relative_to(common).with_suffix("").parts, path.suffix[1:]]) for path in files],
    ):
        repeated = {name for name, count in Counter(names).items() if count > 1}
        names = [new if name in repeated else name for name, new in zip(names, longer, strict=True)]
    if len(set(names)) < len(names):
        clash = next(name for name, count in Counter(names).items() if count > 1)
        raise UsageError(f"several files of jets would share the output {clash}; predict them in separate runs")
    return names
