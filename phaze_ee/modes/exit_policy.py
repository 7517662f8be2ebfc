"""The exit policy of a project, for the modes that use it where there is one."""

from phaze_ee.errors import UsageError
from phaze_ee.exits.policy_file import ExitPolicyFile
from phaze_ee.modes.console import console
from phaze_ee.workspace import Project


def policy_of_model(project: Project, model_hash: str | None) -> ExitPolicyFile | None:
    """Return the project's policy; None without one, and with a word about it where it belongs to another model."""
    if not project.exit_policy.is_file():
        return None
    try:
        return ExitPolicyFile.load(project.exit_policy, model_hash)
    except UsageError as error:
        console.print(f"Note: the exit policy is left out: {error}", markup=False)
        return None
