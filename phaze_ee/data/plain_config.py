"""A checked data configuration without weaver: what a bundle needs of it to read jets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, final

from phaze_ee.data.bad_values import BadValues
from phaze_ee.data.weaver_yaml import check_options
from phaze_ee.errors import DataError

_CONSTANT = "constant"


@final
@dataclass(frozen=True)
class PlainConfig:
    """Attributes of weaver's ``DataConfig`` that reading jets for predictions uses, with the same names and values.

    Attributes:
        treename: the tree; None: the file has one.
        branch_magic: replacements in the names of columns.
        file_magic: columns made from the name of a file.
        selection: that of weaver's training; None: all jets.
        test_time_selection: the expression that jets must pass; None: all pass.
        var_funcs: new variables.
        label_value: the label of each class.
        preprocess_params: length and pad mode of each input.
        observer_names: the columns to copy.
        monitor_variables: columns to copy if there are no observers.
        class_names: the name of each class.
        origin: the file where it comes from, for errors.
        bad_values: what becomes of inputs that are NaN or infinite.
    """

    treename: str | None
    branch_magic: Mapping[str, str] | None
    file_magic: Mapping[str, Mapping[str, float]] | None
    selection: str | None
    test_time_selection: str | None
    var_funcs: Mapping[str, str]
    label_value: list[str]
    preprocess_params: Mapping[str, Mapping[str, Any]]
    observer_names: tuple[str, ...]
    class_names: tuple[str, ...]
    monitor_variables: tuple[str, ...] = ()
    origin: str = field(kw_only=True)
    bad_values: BadValues = field(default="refuse", kw_only=True)

    @classmethod
    def of(cls, options: Mapping[str, Any], origin: str, *, bad_values: BadValues = "refuse") -> Self:
        """Return the configuration of the ``options`` of a ``DataSchema``; its expressions pass the gate.

        Raises:
            DataError: something in it is wrong.
        """
        check_options(options, origin)
        labels = options["labels"]
        formulas = options.get("new_variables") or {}
        selection = options.get("selection") or None
        config = cls(
            treename=options.get("treename"),
            branch_magic=options.get("branch_magic"),
            file_magic=options.get("file_magic"),
            selection=selection,
            test_time_selection=options.get("test_time_selection") or selection,
            var_funcs={name: formula for name, formula in formulas.items() if name != formula},
            label_value=list(labels["value"]),
            preprocess_params=_parameters(options),
            observer_names=tuple(options.get("observers") or ()),
            monitor_variables=tuple(options.get("monitor_variables") or ()),
            class_names=tuple(labels.get("names") or labels["value"]),
            origin=origin,
            bad_values=bad_values,
        )
        if config.observer_names and config.monitor_variables:
            raise DataError(f"{origin} has observers and monitor_variables; give one of them")
        return config

    @property
    def z_variables(self) -> tuple[str, ...]:
        """The columns to copy."""
        return self.observer_names or self.monitor_variables


def _parameters(options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return how each input is padded, and how it is standardised as far as that matters for bad values."""
    given = (options.get("preprocess") or {}).get("params")
    if given is not None:
        return {name: dict(own) for name, own in given.items() if name in _inputs(options)}
    defaults = {"center": None, "scale": 1, "min": -5, "max": 5}
    return {
        name: {
            **defaults,
            **dict(zip(defaults, settings, strict=False)),
            "length": group["length"],
            "pad_mode": (group.get("pad_mode") or _CONSTANT).lower(),
        }
        for name, (group, settings) in _inputs(options).items()
    }


def _inputs(options: Mapping[str, Any]) -> dict[str, tuple[Mapping[str, Any], Sequence[Any]]]:
    """Return the input group of each variable, and its settings there."""
    rows = (
        (group, entry if isinstance(entry, list) else [entry])
        for group in options["inputs"].values()
        for entry in group["vars"]
    )
    return {entry[0]: (group, entry[1:]) for group, entry in rows}
