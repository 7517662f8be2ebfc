"""How much each exit's loss counts, epoch by epoch."""

import math
from collections.abc import Callable, Sequence

# From the share of the ramp that is done, in (0, 1], to the share of beta_max that applies.
BETA_SCHEDULES: dict[str, Callable[[float], float]] = {
    "linear": lambda done: done,
    "cosine": lambda done: 0.5 * (1.0 - math.cos(math.pi * done)),
    "switch": lambda done: 1.0,
}


def beta_at(
    epoch: int, *, beta_max: Sequence[float], schedule: str, zero_epochs: int, epochs: int
) -> tuple[float, ...]:
    """Return the weight of each exit's loss in one epoch.

    It is 0 in the first ``zero_epochs`` epochs; then it rises over all epochs that remain, is above 0 from the first
    of them on, and is ``beta_max`` in the last.

    Args:
        epoch: the epoch, counted from 0.
        beta_max: the weights in the last epoch, one per exit.
        schedule: a name in :data:`BETA_SCHEDULES`.
        zero_epochs: epochs without exit loss.
        epochs: epochs in all.
    """
    if epoch < zero_epochs:
        return (0.0,) * len(beta_max)
    done = (epoch - zero_epochs + 1) / (epochs - zero_epochs)
    share = BETA_SCHEDULES[schedule](min(done, 1.0))
    return tuple(share * weight for weight in beta_max)
