"""The exit policy of a project, for the modes that use it where there is one."""

from phaze_ee.exits.policy_file import ExitPolicyFile
from phaze_ee.modes.console import console
from phaze_ee.workspace import Project


def policy_of_model(project: Project, model_hash: str | None) -> ExitPolicyFile | None:
    """Return the project's policy; None without one, and with a word about it where it belongs to another model.

    Raises:
        UsageError: it cannot be read.
    """
    if not project.exit_policy.is_file():
        return None
    file = ExitPolicyFile.read(project.exit_policy, made_by="calibrate")
    if file.model_hash == model_hash:
        return file
    note = (
        f"{project.exit_policy} was calibrated for another model, or for this one before it was trained anew, and is "
        "left out: run mode 'calibrate' again"
    )
    console.print(f"Note: {note}", soft_wrap=True, markup=False)
    return None
