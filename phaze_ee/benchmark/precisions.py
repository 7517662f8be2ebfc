"""The full model in each precision of its products: rate, and how far the answers are from those in float64."""

from copy import deepcopy
from typing import get_args

import torch
from torch import Tensor

from phaze_ee.benchmark.latency import rate_of
from phaze_ee.engine.engine import Engine
from phaze_ee.errors import UsageError
from phaze_ee.machine import Precision
from phaze_ee.models.precision import checked_precision
from phaze_ee.models.tagger import Tagger
from phaze_ee.results.benchmark import PrecisionLatency
from phaze_ee.types import Jets


def compare_precisions(
    tagger: Tagger, jets: Jets, *, threads: int = 1, seconds: float = 0.25
) -> list[PrecisionLatency]:
    """Time the full model in every precision of the device, and compare its answers with those in float64.

    Args:
        tagger: in evaluation mode, on the device of the jets.
        jets: in float32.
        threads: as for :class:`phaze_ee.engine.engine.Engine`.
        seconds: minimum time of each measurement.
    """
    exact = Engine(deepcopy(tagger).double(), threads=threads, backend="given")
    exact_NK = exact(jets.map(_double)).logits_NK
    found = []
    for precision in precisions_of(jets.total_count_N.device):
        engine = Engine(tagger, threads=threads, backend="given", precision=precision)
        logits_NK = engine(jets).logits_NK.double()
        found.append(
            PrecisionLatency(
                precision=precision,
                jets_per_second=rate_of(engine, jets, seconds),
                largest_difference=float((logits_NK - exact_NK).abs().max()),
                same_class=float((logits_NK.argmax(1) == exact_NK.argmax(1)).double().mean()),
            )
        )
    return found


def precisions_of(device: torch.device) -> list[Precision]:
    """Return the precisions in which a device has products."""
    found: list[Precision] = []
    for precision in get_args(Precision):
        try:
            found.append(checked_precision(precision, device))
        except UsageError:  # this device does not have it
            continue
    return found


def _double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor
