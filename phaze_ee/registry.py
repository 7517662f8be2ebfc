"""The parts that a configuration chooses by name: backbones, exit heads, links, losses and scores.

The table holds the names of the package's own parts, so that an option is checked without importing torch. A part is
imported when it is first used. :func:`register` adds the parts of a user.
"""

import importlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from phaze_ee.errors import UsageError
from phaze_ee.names import nearest
from phaze_ee.user_files import UserFile, file_of

PartT = TypeVar("PartT")

# By kind, the names and the classes of the package. A kind is named as the option that chooses it.
BUILT_IN: Mapping[str, Mapping[str, str]] = {
    "model_name": {
        "ParticleNet": "phaze_ee.models.particle_net.padded:ParticleNet",
        "ParticleTransformer": "phaze_ee.models.particle_transformer:ParticleTransformer",
        "ParticleNeXt": "phaze_ee.models.particle_next:ParticleNeXt",
        "PFN": "phaze_ee.models.particle_flow_network:ParticleFlowNetwork",
    },
    "exit_head": {
        "linear": "phaze_ee.models.heads:LinearExitHead",
        "linear_mean_max": "phaze_ee.models.heads:LinearMeanMaxExitHead",
        "attention": "phaze_ee.models.heads:AttentionExitHead",
        "mlp": "phaze_ee.models.heads:MlpExitHead",
        "deep_sets": "phaze_ee.models.heads:DeepSetsExitHead",
    },
    "exit_link": {
        "independent": "phaze_ee.models.links:IndependentLink",
        "cascade": "phaze_ee.models.links:CascadeLink",
        "boosted": "phaze_ee.models.links:BoostedLink",
    },
    # The option exit_loss_strategy has one of these names with "_detached" or "_flow" at its end.
    "exit_loss": {
        "mimic": "phaze_ee.training.losses:MimicLoss",
        "target": "phaze_ee.training.losses:TargetLoss",
        "distill": "phaze_ee.training.losses:DistillLoss",
        "reject": "phaze_ee.training.reject:RejectLoss",
    },
    "exit_score": {
        "confidence": "phaze_ee.exits.scores:Confidence",
        "entropy": "phaze_ee.exits.scores:NegativeEntropy",
        "margin": "phaze_ee.exits.scores:Margin",
        "patience": "phaze_ee.exits.scores:Patience",
        "gate": "phaze_ee.exits.scores:Gate",
        "window": "phaze_ee.exits.scores:Window",
        "fixed": "phaze_ee.exits.scores:FixedExit",
    },
}

_LINK_ALIASES = {"ztw": "cascade"}  # for users who look for a link among the heads


@dataclass(frozen=True)
class Registered:
    """A part of a user, and the file that defines it; None for a class of an interactive session."""

    part: Any
    file: UserFile | None

    @property
    def place(self) -> str:
        """Where the class is defined, in words."""
        where = self.part.__module__ if self.file is None else self.file.path
        return f"class {self.part.__qualname__} of {where}"

    def is_again(self, other: "Registered") -> bool:
        """Return whether the same class was defined once more, by a file that ran again or by a copy of the file."""
        same_name = self.part.__qualname__ == other.part.__qualname__
        if self.file is None or other.file is None:
            return self.part is other.part
        return same_name and self.file.code_sha256 == other.file.code_sha256

    def replaces(self, other: "Registered") -> bool:
        """Return whether the same class was defined anew, with changes: an edited file, or a cell of a notebook."""
        return (self.part.__module__, self.part.__qualname__) == (other.part.__module__, other.part.__qualname__)


# By kind and name, what :func:`register` was called with.
REGISTERED: dict[str, dict[str, Registered]] = {kind: {} for kind in BUILT_IN}
_registries: list["Registry[Any]"] = []


class Registry(Mapping[str, PartT], Generic[PartT]):
    """The classes of one kind, by name: those of the package, then those of the user.

    Args:
        kind: a key of :data:`BUILT_IN`.
        base: the class from which all parts of the kind derive.
    """

    def __init__(self, kind: str, base: type[Any]) -> None:
        self.kind, self.base = kind, base
        _registries.append(self)

    def __getitem__(self, name: str) -> PartT:
        if name in REGISTERED[self.kind]:
            return REGISTERED[self.kind][name].part  # type: ignore[no-any-return]
        module, _, attribute = BUILT_IN[self.kind][name].partition(":")
        return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[str]:
        return iter(known_names(self.kind))

    def __len__(self) -> int:
        return len(known_names(self.kind))


def register(part: PartT) -> PartT:
    """Register a class of your own, so that a configuration can choose it by its ``name``; use it as a decorator.

    The base class tells the kind: ``ExitHead``, ``ExitLink``, ``ExitLoss``, ``ExitScore`` or ``Backbone``. To register
    the same class again has no effect.

    Returns:
        The class that is registered under the name. It is the first one, where a file has run twice.

    Raises:
        UsageError: the class has no such base class or no name, has abstract methods left, or another class has the
            name.
    """
    if not isinstance(part, type):
        raise UsageError(f"phaze_ee.register takes a class, not {part!r}")
    registry = next((registry for registry in _registries if issubclass(part, registry.base)), None)
    new = Registered(part, file_of(part))
    if registry is None:
        raise UsageError(
            f"phaze_ee.register: {new.place} derives from none of ExitHead, ExitLink, ExitLoss, ExitScore and Backbone"
        )
    _check_class(new)
    registered: PartT = _added(registry.kind, _name_of(new), new)
    return registered


def known_names(kind: str) -> list[str]:
    """Return the names of all parts of a kind, those of the user last."""
    return [*BUILT_IN[kind], *REGISTERED[kind]]


def loss_strategies() -> list[str]:
    """Return the values of the option ``exit_loss_strategy``: each loss with "_detached" and with "_flow"."""
    return [f"{name}_{way}" for name in known_names("exit_loss") for way in ("detached", "flow")]


def plugin_files() -> list[str]:
    """Return the paths of the files that have registered parts in this process, for other processes to import."""
    found = (registered for parts in REGISTERED.values() for registered in parts.values())
    files = (new.file for new in found if new.file is not None and new.part.__module__ == new.file.module_name)
    return list(dict.fromkeys(file.path for file in files))


def plugin_hashes() -> list[str]:
    """Return the SHA-256 of the classes in all files that have registered parts in this process."""
    found = (registered.file for parts in REGISTERED.values() for registered in parts.values())
    return sorted({file.code_sha256 for file in found if file is not None})


def unknown(kind: str, name: str, names: Iterable[str] | None = None) -> str:
    """Return the message about a name that is not known: what may be chosen, and what was probably meant.

    Args:
        kind: the option, or the kind of part.
        name: the unknown name.
        names: the possible names; None: all of the kind.
    """
    names = known_names(kind) if names is None else list(names)
    near = nearest(name, names)
    meant = "" if near is None else f"; did you mean {near!r}?"
    choices = f"choose from {', '.join(names)}, or name the file that registers it in c.plugins"
    return f"unknown {kind} {name!r}; {choices}{meant}"


def unknown_head(name: str) -> str | None:
    """Return the message about a head that is not known, which may be a link; None for a known head."""
    if name in known_names("exit_head"):
        return None
    link = _LINK_ALIASES.get(name, name)
    if link not in known_names("exit_link"):
        return unknown("exit_head", name)
    return (
        f"exit_head {name!r} is not a head but a link between exits; set exit_link = {link!r}, and "
        f"exit_head to one of {', '.join(known_names('exit_head'))}"
    )


def _added(kind: str, name: str, new: Registered) -> Any:
    if name in BUILT_IN[kind]:
        raise UsageError(f"{new.place} has the name {name!r}, which the package has; choose another name")
    known = REGISTERED[kind].get(name)
    if known is not None and new.is_again(known):
        return known.part
    if known is not None and not new.replaces(known):
        raise UsageError(
            f"two classes have the name {name!r} ({kind}): {known.place}, and {new.place}; rename one of them"
        )
    REGISTERED[kind][name] = new
    return new.part


def _name_of(new: Registered) -> str:
    # A score is a pydantic model, which keeps the default of a field elsewhere.
    fields = getattr(new.part, "model_fields", {})
    name = fields["name"].default if "name" in fields else getattr(new.part, "name", None)
    if not isinstance(name, str) or not name:
        raise UsageError(f'{new.place} has no name; give it one, as in name = "my_part"')
    return name


def _check_class(new: Registered) -> None:
    missing = sorted(getattr(new.part, "__abstractmethods__", ()))
    if missing:
        raise UsageError(f"{new.place} lacks the method {missing[0]!r} of its base class; define it")
