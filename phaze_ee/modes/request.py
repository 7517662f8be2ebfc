"""The command line, as the modes see it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phaze_ee.errors import UsageError
from phaze_ee.names import FULL_MODEL
from phaze_ee.workspace import Project, existing_project


@dataclass(frozen=True)
class Request:
    """The parsed command line. Fields that a mode does not use stay at their defaults."""

    mode: str
    workspace: str | None = None
    project: str | None = None
    projects: list[str] = field(default_factory=list)
    operations: str = "train_evaluate_benchmark_plot"
    output: Path | None = None
    checkpoint: Path | None = None
    command: str | None = None
    jets: int | None = None
    classes: list[str] | None = None
    seed: int | None = None
    workers: int | None = None
    generator: str = "reference"
    overwrite: bool = False
    vertices: bool = False
    pythia: list[str] = field(default_factory=list)
    bundle: Path | None = None
    files: list[str] = field(default_factory=list)
    format: str = "root"
    exit_scores: bool = False
    observers: list[str] | None = None
    tree: str | None = None
    monitor: float | None = None
    scheduler: str | None = None
    event_budget: str | None = None
    event_size: int | None = None
    event_column: str | None = None
    max_exit: int | None = None
    audit: float | None = None
    audit_near: float | None = None
    by: str | None = None
    adapt: bool = False
    ood: list[str] = field(default_factory=list)
    ood_data_config: str | None = None
    name: str | None = None
    policy: str | None = None
    activate: str | None = None
    plan: bool = False
    details: bool = False
    set: list[str] = field(default_factory=list)
    trials: int | None = None
    storage: str | None = None
    study: str = "sweep"
    objective: str = FULL_MODEL
    one_jet: bool = False
    no_policy: bool = False
    opset: int | None = None
    licence: str | None = None
    at_once: int | None = None
    fresh: bool = False
    yes: bool = False
    trust: bool = False
    verbose: bool = False
    flags: dict[str, Any] = field(default_factory=dict)  # options of the configuration that the command line overrides
    arguments: tuple[str, ...] = field(default=(), compare=False)  # the command line as it was typed

    @property
    def named_project(self) -> Project:
        """The project of ``-p``, which need not exist yet.

        Raises:
            UsageError: ``-p`` was not given, or a name is not usable.
        """
        if self.workspace is None or self.project is None:
            raise UsageError(f"mode {self.mode!r} needs -p WORKSPACE PROJECT")
        return Project(self.workspace, self.project)

    @property
    def existing_project(self) -> Project:
        """The project of ``-p``, which must exist.

        Raises:
            UsageError: ``-p`` was not given, a name is not usable, or there is no such project.
        """
        project = self.named_project
        return existing_project(project.workspace, project.name)
