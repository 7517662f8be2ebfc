"""What a chapter says in place of results that do not exist, with the command that makes them."""

from phaze_ee.report.content import Content
from phaze_ee.report.markup import missing


def no_policy(content: Content) -> str:
    """Return that the policy has no results on test jets, and what makes one."""
    command = content.command("calibrate" if content.promise is None else "evaluate")
    return missing("No results of an exit policy of this model on test jets.", command)


def no_evaluation(content: Content) -> str:
    """Return that the model is not evaluated, and what does it."""
    return missing("No results of this model.", f"{content.command('chain')} -o evaluate_benchmark")


def no_background(content: Content) -> str:
    """Return that there is no background class, and what to do."""
    return missing("None: c.background names no class that has jets. Set it.", content.command("evaluate"))
