"""The working point of a cascade: its signal, its background and the signal efficiency of the cut."""

from collections.abc import Sequence
from difflib import get_close_matches

from phaze_ee.config.options import Options
from phaze_ee.data.schema import choose_background
from phaze_ee.errors import UsageError
from phaze_ee.names import class_title
from phaze_ee.training.losses import WorkingPoint, is_for_a_point


def training_point(options: Options, class_names: Sequence[str]) -> WorkingPoint | None:
    """Return the working point that the exits are trained for; None: their loss needs none.

    It is that of ``exit_target = "signal_efficiency"``, whether or not this is the target.

    Raises:
        UsageError: the loss needs a working point, and the configuration names no signal or no background.
    """
    if not is_for_a_point(options):
        return None
    strategy = options.exit_loss_strategy
    signal, background = signal_and_background(options, class_names, f"exit_loss_strategy = {strategy!r}")
    indices = class_names.index(signal), class_names.index(background)
    return WorkingPoint(*indices, efficiency=options.signal_efficiency, lost=options.epsilon)


def check_signal(options: Options, class_names: Sequence[str]) -> None:
    """Check that a signal that calibrate will need is a class, before hours are spent on a training.

    Raises:
        UsageError: it is not, or it is the background.
    """
    if options.exit_target == "signal_efficiency" and options.signal is not None and options.exit_count != 0:
        signal_and_background(options, class_names, "exit_target = 'signal_efficiency'")


def signal_and_background(options: Options, class_names: Sequence[str], what: str) -> tuple[str, str]:
    """Return the classes of a cut, as labels: ``c.signal``, which may be a title, and ``c.background``.

    Args:
        options: the whole configuration.
        class_names: the classes of the data configuration.
        what: the option and the value that need the classes.

    Raises:
        UsageError: a class is missing or unknown, or both are the same.
    """
    background = choose_background(class_names, options.background)
    choices = ", ".join(name for name in class_names if name != background)
    needed = {
        "c.background, the class that the cut rejects": background,
        "c.signal (--signal), the class that it keeps": options.signal,
    }
    if background is None or options.signal is None:
        missing = ", and ".join(words for words, name in needed.items() if name is None)
        raise UsageError(f"{what} needs {missing}; choose from {choices}")
    wanted = _label(options.signal, class_names)
    if wanted == background:
        raise UsageError(f"signal {wanted!r} is the background of the cut; choose from {choices}")
    if wanted not in class_names:
        titles = {title: name for name in class_names for title in (name, class_title(name))}
        near = get_close_matches(options.signal.lower(), [title.lower() for title in titles], n=1, cutoff=0.4)
        meant = next((name for title, name in titles.items() if near and title.lower() == near[0]), None)
        hint = f"did you mean {meant!r}? Choose" if meant is not None and meant != background else "choose"
        raise UsageError(f"signal {options.signal!r} is not a class of the data configuration; {hint} from {choices}")
    return wanted, background


def _label(name: str | None, class_names: Sequence[str]) -> str:
    """Return the label of a class, which may be given by its title (Hbb for label_Hbb)."""
    return next((label for label in class_names if class_title(label) == name), name or "")
