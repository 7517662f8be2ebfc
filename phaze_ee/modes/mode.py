"""What a mode of the command line is: its name, its flags, and what it needs. Nothing heavy is imported here."""

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from phaze_ee.modes.request import Request
    from phaze_ee.modes.session import Session


@final
@dataclass(frozen=True)
class Flag:
    """A flag of the command line.

    Attributes:
        name: the flag as it is typed, for example ``--max-exit``.
        help: one line for ``--help``.
        settings: keywords of ``ArgumentParser.add_argument``, for example ``type`` and ``metavar``.
        option: the option of the configuration that the flag overrides. None: the flag sets the field of the
            :class:`~phaze_ee.modes.request.Request` that has its name, for example ``max_exit``.
        aliases: other ways to type it.
        field: the field of the request, where it is named otherwise than the flag.
        alone: whether mode chain does not take it.
    """

    name: str
    help: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    option: str | None = None
    aliases: tuple[str, ...] = ()
    field: str | None = None
    alone: bool = False

    @property
    def destination(self) -> str:
        """The option or the field of the request that the flag sets."""
        return self.option or self.field or self.name.lstrip("-").replace("-", "_")

    @property
    def names(self) -> tuple[str, ...]:
        """All ways to type the flag."""
        return (self.name, *self.aliases)


@final
@dataclass(frozen=True)
class Mode:
    """A mode of the command line. The module of its name in :mod:`phaze_ee.modes` runs it.

    Attributes:
        name: what ``-m`` takes.
        summary: one line for ``--help``.
        flags: the flags that it takes, in addition to ``-p`` and ``-v``. Any other flag is refused.
        configured: whether it reads the configuration of a project that exists. Errors in the configuration are then
            reported before anything heavy is imported.
        preemptible: whether a batch system may stop it and start it again. The exit status then says so.
        chained: whether it may stand in ``-o`` of mode chain.
        whole_workspace: whether ``-p`` may name a workspace alone.
        seeded: whether ``--seeds N`` runs it on a project for each seed.
        reads: the modes without whose results it cannot run.
        refuses_early: whether its module has a function ``refuse_early``, which a chain calls before any mode runs.
    """

    name: str
    summary: str
    flags: tuple[Flag, ...] = ()
    configured: bool = False
    preemptible: bool = False
    chained: bool = False
    whole_workspace: bool = False
    seeded: bool = False
    reads: tuple[str, ...] = ()
    refuses_early: bool = False

    def run(self, session: "Session") -> None:
        """Import the module of the mode and run it; with several seeds, the mode that runs it for each."""
        module = self.name if self.needs_project(session.request) else f"{self.name}_bundle"
        if self.seeded and session.seed_count is not None:
            module = "seeds"
        importlib.import_module(f"phaze_ee.modes.{module}").run(session)

    def refuse_early(self, session: "Session") -> None:
        """Refuse what the mode would refuse after the modes before it have run for hours."""
        if self.refuses_early:
            importlib.import_module(f"phaze_ee.modes.{self.name}").refuse_early(session)

    def needs_project(self, request: "Request") -> bool:
        """Return whether the mode works on a project; predict of a bundle has none."""
        return self.name != "predict" or request.bundle is None


def joined_flags(modes: Iterable[Mode]) -> tuple[Flag, ...]:
    """Return the flags of modes in a chain, each once. If modes explain a flag differently, it tells them apart."""
    owners: dict[str, list[tuple[str, Flag]]] = {}
    for mode in modes:
        for flag in mode.flags:
            if not flag.alone:
                owners.setdefault(flag.name, []).append((mode.name, flag))
    return tuple(map(_joined, owners.values()))


def _joined(owners: Sequence[tuple[str, Flag]]) -> Flag:
    helps: dict[str, list[str]] = {}
    for mode, flag in owners:
        helps.setdefault(flag.help, []).append(mode)
    if len(helps) == 1:
        return owners[0][1]
    return replace(owners[0][1], help="; ".join(f"{', '.join(modes)}: {text}" for text, modes in helps.items()))
