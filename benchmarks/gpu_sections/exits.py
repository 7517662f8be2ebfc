"""A stream of background through a cascade, and the time of one call with few jets."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from benchmarks.gpu_sections.inference import Work, ours, rival
from benchmarks.gpu_sections.parts import CASCADE, CLASSES, Sample, Setting
from benchmarks.gpu_sections.rows import EAGER, GRAPHS, OURS, Row
from benchmarks.gpu_sections.timing import attempt, measured, memory_in_use
from phaze_ee.engine.engine import Engine
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.scores import Window
from phaze_ee.machine import Precision

LEAVING = (0.96, 0.75, 0.5)  # of the jets that reach an exit; the exits of published networks are not trained
SIZES = (1, 16, 256)
_STREAM = 8  # batches in one call
_PRECISIONS: tuple[Precision, ...] = ("float32", "float16")
_FULL, _CASCADE = f"{OURS}, full model", f"{OURS}, cascade"


def leaving(shares: Sequence[float], window: Window, logits_ENK: Tensor) -> ThresholdPolicy:
    """Return thresholds at which these fractions of the jets that reach each exit leave there; none if none does."""
    here_N = torch.ones(logits_ENK.shape[1], dtype=torch.bool, device=logits_ENK.device)
    thresholds = []
    for share, logits_NK in zip(shares, logits_ENK, strict=False):
        score_N = window(logits_NK[None])
        thresholds.append(float(score_N[here_N].quantile(1 - share)) if bool(here_N.any()) else math.inf)
        here_N &= score_N < thresholds[-1]
    return ThresholdPolicy(window, thresholds)


def cascade_rows(setting: Setting, section: str) -> Iterator[Row]:
    """Yield the rates of the full model and of a cascade, whose first exit is on the inputs, on 99.9 % QCD."""
    for precision in _PRECISIONS:
        for batches in (1, _STREAM):
            jets = setting.jets(setting.batch * batches, qcd=True)
            for who in (_FULL, _CASCADE):
                make = partial(cascade, setting, jets) if who == _CASCADE else partial(ours, setting, "ParticleNet")
                yield attempt(section, who, precision, partial(_row, setting, section, who, precision, jets, make))


def latency_rows(setting: Setting, section: str, network: str) -> Iterator[Row]:
    """Yield the rates of calls with few jets, one call after the other."""
    stream = setting.jets(setting.batch, qcd=True)
    forms: tuple[tuple[str, Precision, Callable[[Precision], Work]], ...] = (
        *((GRAPHS, precision, partial(ours, setting, network, graphs=True)) for precision in _PRECISIONS),
        *((_FULL, precision, partial(ours, setting, network)) for precision in _PRECISIONS),
        *((_CASCADE, precision, partial(cascade, setting, stream)) for precision in _PRECISIONS),
        (EAGER, "float32", partial(rival, setting, network, EAGER)),
        (EAGER, "bfloat16", partial(rival, setting, network, EAGER)),
    )
    for size in SIZES[:1] if setting.tiny else SIZES:
        jets = setting.jets(size)
        for who, precision, make in forms:
            if who == _CASCADE and network != "ParticleNet":  # its exits are those of ParticleNet
                continue
            if who == GRAPHS and size > 1:
                continue
            yield attempt(section, who, precision, partial(_row, setting, section, who, precision, jets, make))


def _row(
    setting: Setting, section: str, who: str, precision: Precision, jets: Sample, make: Callable[[Precision], Work]
) -> Row:
    before = memory_in_use(setting.device)
    work = make(precision)
    with torch.inference_mode():
        seconds, memory = measured(partial(work, jets), setting.rounds, setting.device, before=before)
    return Row(section, who, precision, len(jets), len(jets) / seconds, memory)


@torch.inference_mode()
def cascade(setting: Setting, jets: Sample, precision: Precision) -> Work:
    """Return ParticleNet with exits that fixed fractions of these jets take."""
    tagger = setting.tagger("ParticleNet", CASCADE)
    logits_ENK = Engine(tagger, precision=precision).every_exit(jets.ragged)
    policy = leaving(LEAVING, Window(signal=CLASSES - 1, background=0, cut=1e9), logits_ENK)
    engine = Engine(tagger, policy, precision=precision)
    return lambda some: engine(some.ragged).logits_NK
