"""The policies of a project: each has a name and a file, and one of them is active.

``results/policies/NAME.json`` are all of them. ``results/exit_policy.json`` is a copy of the active one, which modes
and :func:`phaze_ee.load_policy` use unless another is named. A project of version 0.1 has the copy alone.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict

from phaze_ee.atomic import replacing
from phaze_ee.errors import UsageError
from phaze_ee.machine import Precision
from phaze_ee.results.base import Record, Traced
from phaze_ee.workspace import Project, check_name, file_hash

if TYPE_CHECKING:
    from phaze_ee.exits.policy_file import ExitPolicyFile, KeptPolicy
    from phaze_ee.modes.session import Session

DEFAULT = "default"
_OTHER_MODEL = "was calibrated for another model, or for this one before it was trained again"
_NAMELESS = "earlier"  # the active policy of a project of version 0.1, when another becomes active
ADAPTED = "adapted"  # policies/NAME.adapted.json is NAME after the moves of mode monitor
_FAILED = "failed"  # policies/NAME.failed.json is a calibration that did not replace NAME


class _Part(Record):
    model_config = ConfigDict(extra="ignore")


class PolicyPromise(_Part):
    """The promise of a policy."""

    method: str = "none"
    holds: bool
    statement: str
    delta: float


class PolicyJets(_Part):
    """The calibration jets of a policy: all, those that chose it, and those that tested it."""

    jets: int
    shaping: int
    testing: int


class PolicyCost(_Part):
    """The mean cost of a policy, as a share of the full model's."""

    cost_share: float


class PolicyMove(_Part):
    """The calibrated policy from which a moved one comes, and the number of steps."""

    name: str
    step: int


class PolicySummary(Traced):
    """The part of a policy file that is read without torch and without the plug-ins of a project."""

    model_config = ConfigDict(extra="ignore")

    thresholds: list[float]
    score: dict[str, Any]
    target: dict[str, Any]
    guarantee: PolicyPromise
    calibration: PolicyJets
    realised: dict[str, PolicyCost]
    moved_from: PolicyMove | None = None


def policy_names(project: Project) -> list[str]:
    """Return the names of the policies of a project, in alphabetical order."""
    names = (path.name.removesuffix(".json") for path in project.policies.glob("[!.]*.json"))  # no temporary files
    return sorted(name for name in names if not name.endswith(f".{_FAILED}"))


def failed_names(project: Project) -> list[str]:
    """Return the names of the calibrations that failed and replaced no policy, in alphabetical order."""
    return sorted(path.name.removesuffix(f".{_FAILED}.json") for path in project.policies.glob(f"[!.]*.{_FAILED}.json"))


def active_name(project: Project) -> str | None:
    """Return the name of the active policy; None without one, and if it is kept under no name."""
    digest = file_hash(project.exit_policy)
    return next((name for name in policy_names(project) if digest == file_hash(project.policy(name))), None)


def find_policy(project: Project, name: str | None) -> Path | None:
    """Return the file of the policy with this name; None: of the active one, and None if there is none.

    Raises:
        UsageError: there is no policy with this name.
    """
    if name is None:
        return project.exit_policy if project.exit_policy.is_file() else None
    if project.policy(name).is_file():
        return project.policy(name)
    known = ", ".join(policy_names(project)) or "none"
    if name in failed_names(project):
        raise UsageError(
            f"project {project} has no policy {name!r}: its calibration failed (it has: {known}); calibrate again with "
            f"--name {name}, with more jets or a larger limit"
        )
    makes = "'monitor' makes it: --adapt" if name.endswith(f".{ADAPTED}") else "'calibrate' makes one: --name"
    raise UsageError(f"project {project} has no policy {name!r} (it has: {known}); mode {makes}")


def read_policy(project: Project, name: str | None) -> "KeptPolicy | None":
    """Return the policy with this name; None: the active one, and None if there is none.

    Raises:
        UsageError: there is no policy with this name, or its file cannot be read.
    """
    from phaze_ee.exits.policy_file import ExitPolicyFile, KeptPolicy

    path = find_policy(project, name)
    if path is None:
        return None
    file, digest = ExitPolicyFile.read_hashed(path, made_by="calibrate")
    return KeptPolicy(name or active_name(project) or DEFAULT, path, file, digest)


def asked_policy(session: "Session") -> "KeptPolicy | None":
    """Return the policy of ``--policy``, else the active one, and say it where there is none, or ``--no-policy``.

    Raises:
        UsageError: both flags are given, there is no policy with this name, or its file cannot be read.
    """
    from phaze_ee.modes.console import say, say_in_columns

    request = session.request
    if request.no_policy:
        if request.policy is not None:
            raise UsageError("--policy and --no-policy exclude each other; give one")
        say("Policy: none, every jet gets the full model")
        return None
    kept = read_policy(session.project, request.policy)
    if kept is None:
        path = session.project.exit_policy
        say_in_columns(f"Policy: no exit policy yet ({path}; mode 'calibrate' makes it): every jet gets the full model")
    return kept


def policy_for(project: Project, name: str | None, model_hash: str | None, precision: Precision) -> "KeptPolicy | None":
    """Return the policy with this name, or the active one (None), for the model with this hash in a precision.

    An active policy of another model is not used, with a note.

    Raises:
        UsageError: the policy with this name is unknown or belongs to another model, a file cannot be read, or the
            policy was calibrated in another precision.
    """
    from phaze_ee.modes.console import say_in_columns

    kept = read_policy(project, name)
    if kept is None:
        return None
    if kept.file.model_hash == model_hash:
        kept.file.check_precision(precision, kept.path)
        return kept
    why = f"{kept.path} {_OTHER_MODEL}"
    if name is not None:
        raise UsageError(f"{why}; run mode 'calibrate' again with --name {kept.name}")
    say_in_columns(f"Note: {why}, and is not used: run mode 'calibrate' again")
    return None


def keep_policy(project: Project, name: str, file: "ExitPolicyFile") -> None:
    """Write a policy under a name, and make it the active one. The policy that was active is kept.

    Raises:
        UsageError: the name cannot be that of a file.
        RunError: a file cannot be written.
    """
    path = project.policy(check_policy_name(name))
    if project.exit_policy.is_file() and active_name(project) is None:
        _copy(project.exit_policy, project.policy(_NAMELESS))
    file.write(path)
    activate(project, name)


def keep_failed(project: Project, name: str, file: "ExitPolicyFile") -> Path:
    """Write a failed calibration beside the policies, none of which changes, and return its path."""
    path = project.policies / f"{check_policy_name(name)}.{_FAILED}.json"
    file.write(path)
    return path


def activate(project: Project, name: str) -> None:
    """Make a policy the active one.

    Raises:
        UsageError: there is no policy with this name, or it is of another model.
        RunError: the copy cannot be written.
    """
    path = find_policy(project, name)
    assert path is not None
    if project.model_hash not in (None, PolicySummary.read(path, made_by="calibrate").model_hash):
        raise UsageError(f"{path} {_OTHER_MODEL}; run mode 'calibrate' again with --name {name}")
    _copy(path, project.exit_policy)


def check_policy_name(name: str) -> str:
    """Return a name that a calibrated policy can have.

    Raises:
        UsageError: it cannot be the name of a file, or means a failed calibration or a policy that has moved.
    """
    check_name("policy", name)
    for suffix, marks in ((_FAILED, "failed calibrations"), (ADAPTED, "policies that mode monitor moves")):
        if name.endswith(f".{suffix}"):
            raise UsageError(f"policy name {name!r} ends with .{suffix}, which marks {marks}; choose another")
    return name


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as temporary:
        temporary.write_bytes(source.read_bytes())
