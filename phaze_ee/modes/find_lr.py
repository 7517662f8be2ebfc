"""Mode find_lr: find a learning rate to start from."""

from functools import partial

from phaze_ee.errors import UsageError
from phaze_ee.modes.console import say, say_in_columns
from phaze_ee.modes.plot import write_figures
from phaze_ee.modes.session import Session
from phaze_ee.modes.train import prepare
from phaze_ee.plots.curves import find_lr_figure
from phaze_ee.training.find_lr import HIGHEST, LOWEST, STEPS, find_lr


def run(session: Session) -> None:
    """Train for some steps at rising learning rates. The models of the project are not changed.

    Raises:
        UsageError: some layers have a rate of their own, which the test does not keep.
    """
    own = [layer for layer, factor in session.options.lr_factors.items() if factor not in (0, 1)]
    if own:
        raise UsageError(
            f"{session.project.config}: lr_factors gives {', '.join(own)} learning rates of their own, and this test "
            "gives all layers the same; remove them for it"
        )
    ready = prepare(session)
    project, options = session.project, ready.session.options
    say_in_columns(f"{project}: up to {STEPS} steps at learning rates from {LOWEST:g} to {HIGHEST:g}")
    results = find_lr(ready.tagger, ready.loaders.train, options, session.device, str(project), ready.working)
    results.write(project.learning_rate_search)
    write_figures({"performance/find_lr": partial(find_lr_figure, results)}, project.plots)
    say_in_columns("The loss falls fastest at this learning rate:")
    say(f"    c.lr = {results.suggestion:.2g}")
    say_in_columns("Start from it, or from a smaller one. The figure shows up to where the loss keeps falling.")
