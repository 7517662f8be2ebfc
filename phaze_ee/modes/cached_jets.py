"""Where the caches of a project are, and which of them a mode reads."""

from collections.abc import Sequence
from pathlib import Path

from phaze_ee.data.cache.reader import Cache, find_cache
from phaze_ee.data.schema import DataSchema
from phaze_ee.errors import UsageError
from phaze_ee.modes.console import console
from phaze_ee.modes.inputs import Setup


def cache_root(setup: Setup) -> Path:
    """Return the folder of the project's caches: ``c.cache_folder``, or one in its data folder."""
    chosen = setup.options.cache_folder
    return setup.project.data / "cache" if chosen is None else Path(chosen).expanduser()


def cached_jets(
    setup: Setup, schema: DataSchema, files: Sequence[Path], *, training: bool = False, labelled: bool = True
) -> Cache | None:
    """Return the cache that mode convert made of these files, where ``c.use_cache`` lets it be used; else None.

    Args:
        setup: the project.
        schema: for training, as the YAML has it; for evaluation, resolved.
        files: in the order in which they would be read.
        training: whether the jets are for training, or for evaluation.
        labelled: whether the labels are wanted.

    Raises:
        UsageError: there is none, and ``c.use_cache`` is "always".
        DataError: a file does not exist any more, or the cache is damaged.
    """
    if setup.options.use_cache == "never":
        return None
    root = cache_root(setup)
    cache = find_cache(root, schema, files, training=training, labelled=labelled)
    purpose = "training" if training else "evaluation"
    if cache is not None:
        console.print(f"Cache: {cache.folder} ({cache.jet_count:,} jets for {purpose})", soft_wrap=True, markup=False)
        return cache
    remedy = f"phaze_ee -m convert -p {setup.project.workspace} {setup.project.name}"
    if setup.options.use_cache == "always":
        raise UsageError(
            f"c.use_cache is 'always', but {root} has no cache for {purpose} of {files[0]} … as they are now and of "
            f"this data config; make one: {remedy}"
        )
    if any(root.glob(f"{purpose}_*")):
        console.print(
            f"Note: {root} has no cache for {purpose} of these files as they are now and of this data config; the "
            f"files are read. {remedy} would make one.",
            soft_wrap=True,
            markup=False,
        )
    return None
