"""A stream of background through a cascade, and the time of one call with few jets."""

import math
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from benchmarks.gpu_sections.inference import Work, ours, rival
from benchmarks.gpu_sections.parts import CASCADE, CLASSES, Sample, Setting
from benchmarks.gpu_sections.rows import EAGER, OURS, Row
from benchmarks.gpu_sections.timing import attempt, measured, memory_in_use
from phaze_ee.engine.engine import Engine
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.scores import Window
from phaze_ee.machine import Precision

LEAVING = (0.96, 0.75, 0.5)  # of the jets that reach an exit; the exits of published networks are not trained
SIZES = (1, 16, 256)
_STREAM = 8  # batches in one call
_PRECISIONS: tuple[Precision, ...] = ("float32", "float16")


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
            for who in ("full model", "cascade"):
                title = f"{OURS}, {who}"
                measure = partial(_row, setting, section, title, precision, jets, None)
                yield attempt(section, title, precision, measure)


def latency_rows(setting: Setting, section: str) -> Iterator[Row]:
    """Yield the rates of calls with few jets, one call after the other."""
    for size in SIZES[:1] if setting.tiny else SIZES:
        jets = setting.jets(size)
        for who, precision in (
            *((f"{OURS}, {what}", precision) for what in ("full model", "cascade") for precision in _PRECISIONS),
            (EAGER, "float32"),
            (EAGER, "bfloat16"),
        ):
            measure = partial(_row, setting, section, who, precision, jets, setting.jets(setting.batch, qcd=True))
            yield attempt(section, who, precision, measure)


def _row(setting: Setting, section: str, who: str, precision: Precision, jets: Sample, tuned_on: Sample | None) -> Row:
    before = memory_in_use(setting.device)
    if who == EAGER:
        work = rival(setting, "ParticleNet", who, precision)
    elif "cascade" in who:
        work = cascade(setting, precision, jets if tuned_on is None else tuned_on)
    else:
        work = ours(setting, "ParticleNet", precision)
    with torch.inference_mode():
        seconds, memory = measured(partial(work, jets), setting.rounds, setting.device, before=before)
    return Row(section, who, precision, len(jets), len(jets) / seconds, memory)


@torch.inference_mode()
def cascade(setting: Setting, precision: Precision, jets: Sample) -> Work:
    """Return our network with exits that fixed fractions of these jets take."""
    tagger = setting.tagger("ParticleNet", CASCADE)
    logits_ENK = Engine(tagger, precision=precision).every_exit(jets.ragged)
    policy = leaving(LEAVING, Window(signal=CLASSES - 1, background=0, cut=1e9), logits_ENK)
    engine = Engine(tagger, policy, precision=precision)
    return lambda some: engine(some.ragged).logits_NK
