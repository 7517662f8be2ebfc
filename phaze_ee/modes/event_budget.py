"""The budget of an event, as a user gives it on the command line."""

import re
import time
from pathlib import Path

from phaze_ee.data.loaders import evaluation_loader
from phaze_ee.data.schema import DataSchema
from phaze_ee.errors import UsageError
from phaze_ee.exits.engine import Engine
from phaze_ee.exits.event_budget import EventBudget
from phaze_ee.models.tagger import Tagger
from phaze_ee.modes.console import console
from phaze_ee.modes.request import Request
from phaze_ee.prediction.events import Events

_AMOUNT = re.compile(r"(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*(k|M|G|ms)")
_FACTORS = {"k": 1e3, "M": 1e6, "G": 1e9}
_TIMED_JETS = 256
_ROUNDS = 3


def requested_events(request: Request) -> Events | None:
    """Return how jets make events; None without ``--event-budget``.

    Raises:
        UsageError: the flags do not go together.
    """
    given = [request.event_size is not None, request.event_column is not None]
    if request.event_budget is None:
        if any(given):
            raise UsageError("--event-size and --event-column say what shares an --event-budget; give one")
        return None
    if sum(given) != 1:
        raise UsageError("--event-budget needs to know the events: give --event-size N or --event-column NAME")
    if request.event_size is not None and request.event_size < 1:
        raise UsageError(f"--event-size {request.event_size} is not a number of jets; give 1 or more")
    return Events(request.event_size, request.event_column)


def event_budget(amount: str, tagger: Tagger, schema: DataSchema, file: Path, threads: int) -> EventBudget:
    """Return the budget in multiply-accumulates; milliseconds are turned into these by timing the full model.

    Raises:
        UsageError: the amount is not one, or not positive.
    """
    match = _AMOUNT.fullmatch(amount.strip())
    if match is None:
        raise UsageError(f"--event-budget {amount!r} is neither MACs (500k, 200M, 1.5G) nor milliseconds (5ms)")
    number, unit = float(match[1]), match[2]
    if unit != "ms":
        return EventBudget(number * _FACTORS[unit])
    rate = _macs_per_ms(tagger, schema, file, threads)
    console.print(
        f"Budget: {amount} are {number * rate / 1e6:.3g} M MACs at the {rate / 1e6:.3g} M a ms of the full model"
    )
    return EventBudget(number * rate)


def _macs_per_ms(tagger: Tagger, schema: DataSchema, file: Path, threads: int) -> float:
    jets = next(iter(evaluation_loader(schema, [file], batch_size=_TIMED_JETS, labelled=False))).inputs.ragged()
    engine = Engine(tagger, threads=threads)
    macs = float(engine(jets).macs_N.sum())  # the first call warms up
    start = time.perf_counter()
    for _ in range(_ROUNDS):
        engine(jets)
    return macs * _ROUNDS / (1e3 * (time.perf_counter() - start))
