"""The branches of a file that a data configuration needs, and what is said of a file that lacks some."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from phaze_ee.data.evaluation import names_in
from phaze_ee.data.sources import Source
from phaze_ee.errors import DataError

if TYPE_CHECKING:
    from weaver.utils.data.config import DataConfig

_SHOWN, _HINTS = 4, 2  # branches in a message, and names that they may stand for
_LIKE, _VERY_LIKE = 0.8, 0.9  # a name that is needed itself must be very like a missing one: jet_tau1 is no jet_tau2
_REMEDY = "correct the data config or the file list"
_REMEDIES = {
    "labels": "correct the data config, or give files with labels (c.train_files, c.val_files, c.test_files, "
    "c.calibration_files); predict needs none",
    "weights": "name branches or new_variables there; an expression, or a name of labels.names, is none of both",
    "observers": "correct the file list, or leave it out of the observers (no training needed); predict takes others "
    "by --observers NAME … (without names: none), calibrate by --bins",
}
_FILES = "correct the file list, or write the branches into the files"
_OF_BUNDLE = {"observers": "predict takes others by --observers NAME … (without names: none)"}
_FIELDS = "fields of records are not read: write each as a branch of its own"


def columns_for(config: "DataConfig", names: Iterable[str]) -> tuple[set[str], dict[str, str]]:
    """Return the file's columns and the new variables, in the order of the YAML, that ``names`` are made from."""
    columns: set[str] = set()
    used: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name in config.var_funcs and name not in used:
            used.add(name)
            todo += names_in(config.var_funcs[name])
        elif name not in used:
            columns.add(name)
    return columns, {name: formula for name, formula in config.var_funcs.items() if name in used}


def weight_names(config: "DataConfig") -> set[str]:
    """Return the columns and new variables that sampling weights are computed from; none without weights.

    The configuration of an exported tagger has none.
    """
    if getattr(config, "weight_name", None) is None:
        return set()
    if config.use_precomputed_weights:
        return {config.weight_name}
    base = {config.basewgt_name} if config.reweight_basewgt else set()
    return {*config.reweight_branches, *config.reweight_classes, *base}


def missing_branches(config: "DataConfig", path: Path, source: Source, in_file: Mapping[str, str]) -> DataError:
    """Return the error about a file that lacks branches: which, what needs them, and which names are like them.

    Args:
        config: the data configuration.
        path: the file.
        source: the same file, open.
        in_file: the columns that the file must hold, each with its name in the file; some are missing.
    """
    missing = {name: stored for name, stored in in_file.items() if stored not in source.columns}
    near = _near(missing.values(), {*source.columns, *source.fields}, set(in_file.values()))
    (section, first), *more = _sections(config, missing).items()
    lacks = f"has no branch {_listed(first, missing, near)}, which {_users(section, config.origin)}"
    for other, names in more:
        lacks += f", nor {_listed(names, missing, near)}{f' ({other})' if other else ''}"
    others = f"; it holds {source.others}" if source.others else ""
    from phaze_ee.data.plain_config import PlainConfig  # whose checks import this module

    exported = isinstance(config, PlainConfig)
    remedy = _OF_BUNDLE.get(section, _FILES) if exported else _REMEDIES.get(section, _REMEDY)
    if any(name not in source.columns for name in near.values()):
        remedy = _FIELDS
    return DataError(f"{path} {lacks}{others}; {remedy}")


def _sections(config: "DataConfig", columns: Iterable[str]) -> dict[str, list[str]]:
    """Return columns by the section of the data configuration that needs them; "": another one."""
    labels = config.label_value if isinstance(config.label_value, list) else []
    sections: dict[str, Iterable[str]] = {
        "inputs": config.preprocess_params,
        "labels": [name for label in labels for name in names_in(label)],
        "selection": names_in(config.selection or "0"),
        "test_time_selection": names_in(config.test_time_selection or "0"),
        "weights": weight_names(config),
        "observers": config.observer_names,
        "monitor_variables": config.monitor_variables,
        "": columns,
    }
    left, found = set(columns), {}
    for section, names in sections.items():
        own = left & columns_for(config, names)[0]
        if own:
            found[section] = sorted(own)
        left -= own
    return found


def _users(section: str, origin: str) -> str:
    """Return what needs some branches, with its verb."""
    if section == "observers":
        return f"the observers (--observers, --bins, or those of {origin}) need"
    subject = f"the {section} of {origin}" if section else origin
    return f"{subject} {'need' if section.endswith('s') else 'needs'}"


def _listed(names: Sequence[str], in_file: Mapping[str, str], near: Mapping[str, str]) -> str:
    """Return the first of some branches in words: as the file would call them, and as the data configuration does."""
    shown = []
    for index, name in enumerate(names[:_SHOWN]):
        stored = in_file[name]
        notes = [f"{name} before branch_magic"] if name != stored and index < _HINTS else []
        notes += [f"did you mean {near[stored]!r}?"] if stored in near else []
        shown.append(f"{stored} ({'; '.join(notes)})" if notes else stored)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(shown) + more


def _near(missing: Iterable[str], known: Collection[str], needed: Collection[str]) -> dict[str, str]:
    """Return for a few missing names the column that is most like each; ``.``, ``/`` and ``_`` are alike.

    ROOT's counters, ``npt`` of the lists ``pt``, are left out.
    """
    alike = {_plain(one): one for one in sorted(known) if not (one.startswith("n") and one[1:] in known)}
    found: dict[str, str] = {}
    for name in missing:
        like = get_close_matches(_plain(name), alike, cutoff=_LIKE)
        fits = [alike[one] for one in like if alike[one] not in needed]
        fits += [alike[one] for one in get_close_matches(_plain(name), like, cutoff=_VERY_LIKE)]
        if fits and len(found) < _HINTS:
            found[name] = fits[0]
    return found


def _plain(name: str) -> str:
    return re.sub("[./]", "_", name)
