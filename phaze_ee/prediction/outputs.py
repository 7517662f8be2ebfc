"""Chooses the output file for each file of jets, and finds predictions that are complete."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from phaze_ee.errors import RunError, UsageError
from phaze_ee.prediction.output_names import Outputs, is_of, output_names
from phaze_ee.prediction.writers import InputFile, Manifest, Recipe, check_columns, read_manifest


@dataclass(frozen=True)
class FileJob:
    """A file of jets, as it is now, the file for its predictions, and the manifest of those that are there."""

    source: Path
    output: Path
    input_file: InputFile
    found: Manifest | None = field(default=None, compare=False, repr=False)


def plan(files: Sequence[Path], folder: Path, suffix: str) -> list[FileJob]:
    """Return one job per file, with an output in ``folder`` as :mod:`phaze_ee.prediction.output_names` names it.

    Args:
        files: the files of jets.
        folder: the folder of the outputs.
        suffix: the format of the outputs, ``root`` or ``parquet``.

    Raises:
        UsageError: names clash, a file was predicted under two names, an output would replace a file of jets, or
            ``folder`` is a file.
        DataError: a file does not exist.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; choose another --output")
    outputs, now = Outputs(folder, suffix), {path.absolute(): InputFile.of(path) for path in files}
    names = output_names(now, outputs)
    jobs = [
        FileJob(path, folder / f"{name}.{suffix}", now[path.absolute()], outputs.manifest(name))
        for path, name in ((path, names[path.absolute()]) for path in files)
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
    manifest = read_manifest(job.output) if job.found is None else job.found
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


def check_not_taken(job: FileJob) -> None:
    """Refuse to replace what another command has written under the same name since the names were chosen.

    Raises:
        RunError: it did.
    """
    try:
        made = read_manifest(job.output).input
    except UsageError:  # nothing, or what --overwrite replaces
        return
    if not is_of(made, job.source, job.input_file):
        raise RunError(
            f"another command has written {job.output} meanwhile, for {made.path}; run the same command again, which "
            "chooses another name"
        )
