"""The paths of workspaces and projects, and where the files that a configuration names are looked up."""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from phaze_ee.errors import UsageError, check_utf8
from phaze_ee.names import nearest

PACKAGE_ROOT = Path(__file__).parent
COMPARISONS = "comparisons"
_MOST_NAMES = 8  # of existing projects, in an error
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")


def file_hash(path: Path) -> str | None:
    """Return the SHA-256 of a file; None if there is no such file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None


def home_path(path: str | Path) -> Path:
    """Return a path with ``~`` replaced by the home folder. As in a shell, ``~name`` stays if there is no such user."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises there


def workspaces_root() -> Path:
    """Return the folder of all workspaces: ``$PHAZE_EE_WORKSPACES``, by default phaze_ee/workspaces.

    Raises:
        UsageError: the variable is not UTF-8.
    """
    configured = os.environ.get("PHAZE_EE_WORKSPACES")
    check_utf8("$PHAZE_EE_WORKSPACES", configured or "")
    return home_path(configured) if configured else Path("phaze_ee") / "workspaces"


def check_name(kind: str, name: str) -> str:
    """Return ``name`` if it can be the name of a folder.

    Raises:
        UsageError: the name is empty, has a path separator, or starts with a dot or a dash.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{kind} name {name!r} is not usable: use letters, digits, '_', '-', '+' and '.', starting with a letter, "
            "a digit or '_'"
        )
    return name


@dataclass(frozen=True)
class Project:
    """The paths of one project: ``<workspaces>/<workspace>/<name>/{config,data,output}``."""

    workspace: str
    name: str

    def __post_init__(self) -> None:
        check_name("workspace", self.workspace)
        check_name("project", self.name)
        if self.name == COMPARISONS:
            raise UsageError(f"project name {COMPARISONS!r} is taken: mode compare writes there; choose another")

    def __str__(self) -> str:
        return f"{self.workspace}/{self.name}"

    @property
    def workspace_root(self) -> Path:
        return workspaces_root() / self.workspace

    @property
    def root(self) -> Path:
        return self.workspace_root / self.name

    @property
    def config(self) -> Path:
        return self.root / "config" / f"{self.name}_config.py"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def models(self) -> Path:
        return self.root / "output" / "models"

    @property
    def best_model(self) -> Path:
        return self.models / "best_model.pt"

    @property
    def resume_point(self) -> Path:
        return self.models / "resume.ckpt"

    @property
    def logs(self) -> Path:
        return self.root / "output" / "logs"

    @property
    def plots(self) -> Path:
        return self.root / "output" / "plots"

    @property
    def report(self) -> Path:
        return self.root / "output" / "report.html"

    @property
    def results(self) -> Path:
        return self.root / "output" / "results"

    @property
    def evaluation_results(self) -> Path:
        return self.results / "evaluation_results.json"

    @property
    def benchmark_results(self) -> Path:
        return self.results / "benchmark_results.json"

    @property
    def dynamic_results(self) -> Path:
        return self.results / "dynamic_results.json"

    @property
    def efficiencies(self) -> Path:
        """The folder of the efficiencies of the policy, in the formats of an analysis."""
        return self.results / "efficiency"

    @property
    def ood_results(self) -> Path:
        return self.results / "ood_results.json"

    @property
    def placement_results(self) -> Path:
        return self.results / "placement_results.json"

    @property
    def exit_policy(self) -> Path:
        return self.results / "exit_policy.json"

    @property
    def policies(self) -> Path:
        """The folder of all policies of the project; :attr:`exit_policy` is a copy of the active one."""
        return self.results / "policies"

    def policy(self, name: str) -> Path:
        """Return the path of the policy with this name.

        Raises:
            UsageError: it cannot be the name of a file.
        """
        return self.policies / f"{check_name('policy', name)}.json"

    @property
    def predictions(self) -> Path:
        return self.root / "output" / "predictions"

    @property
    def export(self) -> Path:
        return self.root / "output" / "export"

    @property
    def training_history(self) -> Path:
        return self.results / "training_history.json"

    @property
    def learning_rate_search(self) -> Path:
        return self.results / "find_lr.json"

    @property
    def sweeps(self) -> Path:
        return self.root / "output" / "sweeps"

    def sweep_results(self, study: str) -> Path:
        """Return the path of the trials of a study."""
        return self.sweeps / study / "sweep_results.json"

    @property
    def seeds(self) -> Path:
        """The folder of what is recorded of all seeds of the project together."""
        return self.root / "output" / "seeds"

    @property
    def seeds_results(self) -> Path:
        return self.seeds / "seeds_results.json"

    @property
    def comparisons(self) -> Path:
        return self.workspace_root / COMPARISONS

    @property
    def model_hash(self) -> str | None:
        """The hash of the best model, which identifies it in results and policies; None without one."""
        return file_hash(self.best_model)

    @property
    def history_hash(self) -> str | None:
        """The hash of the training history, which identifies it in results; None without one."""
        return file_hash(self.training_history)

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders of a new project."""
        return (self.config.parent, self.data, self.logs, self.models, self.plots, self.results)


def existing_project(workspace: str, name: str) -> Project:
    """Return the project, which must have a configuration.

    Raises:
        UsageError: the name is not usable, or there is no such project.
    """
    project = Project(workspace, name)
    if project.config.is_file():
        return project
    known = _projects_in(workspace)
    meant = _meant(project, known)
    existing = f"workspace {workspace} holds {', '.join(known[:_MOST_NAMES])}{', …' * (len(known) > _MOST_NAMES)}"
    hint = f"did you mean {meant}? To" if meant else f"{existing}; to" if known else "to"
    raise UsageError(
        f"no project {project} in {workspaces_root()} (looked for {project.config}); "
        f"{hint} create it: phaze_ee -m new_project -p {workspace} {name}"
    )


def near_workspace(name: str) -> str | None:
    """Return the existing workspace whose name is most like a name, which is none of them; None without one."""
    others = [path.name for path in workspaces_root().glob("*") if path.is_dir() and path.name != name]
    return nearest(name, others)


def _meant(project: Project, known: Sequence[str]) -> str | None:
    """Return the nearest project of the workspace, else of the workspace with the nearest name; None without one."""
    if own := nearest(project.name, known):
        return repr(own)
    other = near_workspace(project.workspace)
    if other is None:
        return None
    near = nearest(project.name, _projects_in(other))
    return f"workspace {other!r}" if near is None else f"'{other}/{near}'"


def _projects_in(workspace: str) -> list[str]:
    return sorted(path.name for path in (workspaces_root() / workspace).glob("*") if (path / "config").is_dir())


def search_roots(project_root: Path | None) -> tuple[Path, ...]:
    """Return the folders where relative paths of a configuration are looked up, in order and without repeats.

    They are the current directory, the project's folder, the checkout with the package (it has ``data_configs`` and
    ``network_configs``) and the installed package (it has copies of both, and the sample jets).
    """
    own = () if project_root is None else (project_root,)
    found: dict[Path, Path] = {}
    for root in (Path(), *own, PACKAGE_ROOT.parent, PACKAGE_ROOT):
        found.setdefault(root.absolute(), root)
    return tuple(found.values())


def find_file(kind: str, path: str, project_root: Path | None) -> Path:
    """Return the first file of this path in the folders of :func:`search_roots`.

    Raises:
        UsageError: there is no such file.
    """
    wanted = home_path(path)
    roots = (Path(),) if wanted.is_absolute() else search_roots(project_root)
    for root in roots:
        if (root / wanted).is_file():
            return root / wanted
    looked = "" if wanted.is_absolute() else f" (looked in {', '.join(str(root.absolute()) for root in roots)})"
    where = "on the command line" if kind.startswith("--") else "in the configuration"
    raise UsageError(f"{kind} {path!r} does not exist{looked}; correct its path {where}")
