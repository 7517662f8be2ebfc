"""The projects of trials and seeds: the configuration of the base project with other values, and copies of its files.

All options are written out, not imported from the base project, so that a trial means the same after the base was
edited. Seeds follow their base: their configuration is written again.
"""

import re
import shutil
import textwrap
from collections.abc import Mapping
from glob import iglob
from pathlib import Path
from typing import Any

from phaze_ee.atomic import replacing
from phaze_ee.config.options import Options
from phaze_ee.config.template import render_config
from phaze_ee.errors import UsageError
from phaze_ee.registry import plugin_files
from phaze_ee.workspace import Project, home_path

_PATTERNS = ("train_files", "val_files", "test_files", "calibration_files")
# The Python files and the data configuration of the base are copied, because the base may change its own.
_BASE_PLUGIN = "config/base_config.py"  # the copy of a configuration that registers parts itself
_NOTE = """\
Trial of sweep {study} over {base}, with {values}.
All other options are those of {base}, so that this project can be trained again even if that one changes."""
_SEED_NOTE = """\
Each command with --seeds on {base} writes this file: change the configuration of {base} instead."""


def trial_project(base: Project, study: str, number: int) -> Project:
    """Return the project of a trial, which may not exist yet."""
    return Project(base.workspace, f"{base.name}_{study}_{number:03d}")


def make_trial(project: Project, base: Project, study: str, options: Options, drawn: Mapping[str, Any]) -> None:
    """Write the project of a trial, unless an interrupted sweep has written it.

    Args:
        project: the project of the trial.
        base: the project whose options are varied.
        study: the name of the sweep.
        options: the whole configuration of the trial.
        drawn: the varied options, as they were written or drawn.

    Raises:
        UsageError: there is another project of that name.
        RunError: it cannot be written.
    """
    values = ", ".join(f"{name} = {value}" for name, value in drawn.items()).replace("\\", "\\\\").replace('"""', "'''")
    note = "\n".join(map(textwrap.fill, _NOTE.format(study=study, base=base, values=values).splitlines(), [118] * 2))
    text = render_config(str(project), _from_trial(base, options), note, mark="changed")
    if project.config.is_file():
        if _settings(project.config.read_text(encoding="utf-8")) != _settings(text):
            raise UsageError(f"{project.root} is not a trial of this sweep, or was edited; choose another --study NAME")
        return
    _write(project, base, options, text)


def seed_project(base: Project, seed: int) -> Project:
    """Return the project of one seed, which may not exist yet."""
    return Project(base.workspace, f"{base.name}_seed{seed}")


def base_of_seed(project: Project) -> Project | None:
    """Return the project whose seed a project is, by its name; None: there is none."""
    named = re.fullmatch(r"(.+)_seed\d+", project.name)
    base = None if named is None else Project(project.workspace, named[1])
    return base if base is not None and base.config.is_file() else None


def options_of_seed(base: Project, options: Options) -> Options:
    """Return options of the base project as they are read from the project of a seed: some paths are other ones."""
    return Options.model_validate(_from_trial(base, options))


def make_seed(project: Project, base: Project, options: Options) -> None:
    """Write the project of a seed: its configuration follows that of its base project, and so do copies of its files.

    Args:
        project: the project of the seed.
        base: the project that is trained with several seeds.
        options: the whole configuration of the seed.

    Raises:
        UsageError: there is another project of that name.
        RunError: it cannot be written.
    """
    mark = f"Seed {options.seed} of {base}.\n"
    note = mark + textwrap.fill(_SEED_NOTE.format(base=base), 118)
    text = render_config(str(project), _from_trial(base, options), note, mark="changed")
    if project.config.is_file():
        earlier = project.config.read_text(encoding="utf-8", errors="replace")
        if mark not in earlier:
            raise UsageError(
                f"{project} is another project, not seed {options.seed} of {base}; rename one of them, or set c.seed, "
                "from which the seeds are counted"
            )
        if _settings(earlier) == _settings(text):
            _copy_files(project, base, options)
            return
    _write(project, base, options, text)


def _write(project: Project, base: Project, options: Options, text: str) -> None:
    """Write a configuration, and copy the files of the base project that it names."""
    with replacing(project.config) as temporary:
        for folder in project.folders:
            folder.mkdir(parents=True, exist_ok=True)
        _copy_files(project, base, options)
        temporary.write_text(text, encoding="utf-8")


def _copy_files(project: Project, base: Project, options: Options) -> None:
    for name in (options.data_config, options.network_config, *options.plugins):
        _copy(name, base.root, project.root)
    if _registers_parts(base):
        shutil.copyfile(base.config, project.root / _BASE_PLUGIN)


def _from_trial(base: Project, options: Options) -> dict[str, Any]:
    """Return the options, with paths into the folder of the base rewritten for the folder of a trial."""
    values = options.model_dump()
    for name in _PATTERNS:
        values[name] = [_seen(base, pattern) for pattern in values[name]]
    if options.cache_folder is None:  # the jets that mode convert made for the base also serve its trials
        values["cache_folder"] = str((base.data / "cache").absolute())
    if _registers_parts(base):
        values["plugins"] = [*options.plugins, _BASE_PLUGIN]
    if options.init_from is not None:
        values["init_from"] = _seen(base, options.init_from)
    return values


def _settings(text: str) -> list[str]:
    """Return the lines that set options. The words around them may change with the version."""
    lines = text.partition("def set_config")[2].split("\n")
    return [line for line in lines if not line.lstrip().startswith("#") and line != "    c.plugins = []"]


def _registers_parts(base: Project) -> bool:
    return str(base.config.absolute()) in plugin_files()


def _seen(base: Project, pattern: str) -> str:
    return f"../{base.name}/{pattern}" if _is_in(base.root, pattern) else pattern


def _copy(name: str | None, source: Path, target: Path) -> None:
    if name is not None and _is_in(source, name):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)


def _is_in(folder: Path, pattern: str) -> bool:
    """Return whether a relative pattern has matches in ``folder`` but not in the current directory."""
    if home_path(pattern).is_absolute():
        return False
    here, there = (
        (root / pattern).is_file() or any(iglob(pattern, root_dir=root, recursive=True))  # noqa: PTH207 - as data.files
        for root in (Path(), folder)
    )
    return there and not here
