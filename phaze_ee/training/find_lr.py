"""The learning-rate range test (L. N. Smith, arXiv:1506.01186), with the tuner of Lightning."""

import io
import math
import sys
import tempfile
from contextlib import AbstractContextManager, nullcontext, redirect_stderr
from typing import Any

import numpy as np
import torch
from lightning import Trainer, seed_everything
from lightning.pytorch.tuner.tuning import Tuner

from phaze_ee.config.options import Options
from phaze_ee.errors import RunError
from phaze_ee.models.tagger import Tagger
from phaze_ee.results.training import LearningRateSearch
from phaze_ee.training.lightning import environment, hardware, quiet_lightning
from phaze_ee.training.loaders import StepEpochs, TrainingBatches
from phaze_ee.training.losses import WorkingPoint
from phaze_ee.training.module import TaggerModule

LOWEST, HIGHEST = 1e-6, 1.0
STEPS = 100
_SMOOTHING = 0.98  # of the running mean in Lightning
_REACH = 5  # the slope of the loss is taken over this many steps to each side
_HELD = 20  # by means of fewer batches no rate is suggested: their noise is larger than a fall
_EPOCHS = 10**6  # more than the test needs, so that no epoch is the last one


def find_lr(
    tagger: Tagger,
    jets: TrainingBatches,
    options: Options,
    device: torch.device,
    project: str,
    working: WorkingPoint | None = None,
) -> LearningRateSearch:
    """Train while the learning rate rises exponentially, until the loss is four times its lowest value.

    It trains what the first epoch of a training trains, with the same optimiser. Afterwards the weights are restored.

    Args:
        tagger: the network with exits.
        jets: training jets; they are iterated as often as needed.
        options: the whole configuration; its ``seed`` must be set.
        device: where the network is trained.
        project: the name of the project, for the result.
        working: the working point of a cascade, for an exit loss that needs one.

    Raises:
        RunError: no rate can be suggested, because the loss is not finite or never falls.
    """
    assert options.seed is not None
    seed_everything(options.seed, workers=True, verbose=False)
    trained = tagger.fastest_form(device) if options.use_packed else tagger
    module = TaggerModule(trained, options, options, STEPS, point=working)
    with quiet_lightning(), _bar_on_terminals_only(), tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            **hardware(options, device),
            devices=1,
            plugins=environment(),
            max_epochs=_EPOCHS,
            logger=False,
            default_root_dir=folder,
            num_sanity_val_steps=0,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            use_distributed_sampler=False,
        )
        one_epoch = StepEpochs(jets, STEPS)  # otherwise β, and so the loss, would change during the test
        found = Tuner(trainer).lr_find(
            module, one_epoch, min_lr=LOWEST, max_lr=HIGHEST, num_training=STEPS, update_attr=False
        )
    assert found is not None
    losses = _unbiased(found.results["loss"])
    rates = [float(rate) for rate in found.results["lr"][: len(losses)]]
    plain = [float(loss) if math.isfinite(loss) else None for loss in losses]
    return LearningRateSearch(project=project, lr=rates, loss=plain, suggestion=_steepest(rates, losses))


def _steepest(rates: list[float], losses: list[float]) -> float:
    """Return the rate at which the loss falls fastest with the logarithm of the rate.

    The suggestion of Lightning is the steepest fall with the rate itself. At the lowest rates it divides the noise of a
    constant loss by very small differences of the rate.

    Raises:
        RunError: the loss did not stay finite, or never falls.
    """
    finite = np.isfinite(losses)
    loss, rate = np.asarray(losses)[finite], np.asarray(rates)[finite]
    loss, rate = loss[_HELD:], rate[_HELD:]
    if len(loss) <= 2 * _REACH:
        raise RunError("no learning rate can be suggested: the loss did not stay finite; look at the inputs")
    slope = (loss[2 * _REACH :] - loss[: -2 * _REACH]) / np.log(rate[2 * _REACH :] / rate[: -2 * _REACH])
    if slope.min() >= 0:
        raise RunError("no learning rate can be suggested: the loss never falls; look at the inputs")
    return float(rate[_REACH + slope.argmin()])


def _unbiased(losses: list[float]) -> list[float]:
    """Correct the running mean of Lightning, which counts one step too many in its normalisation."""
    return [loss * (1 - _SMOOTHING ** (step + 1)) / (1 - _SMOOTHING**step) for step, loss in enumerate(losses, start=1)]


def _bar_on_terminals_only() -> AbstractContextManager[Any]:
    """Keep Lightning's progress bar, which cannot be switched off, out of logs."""
    return nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO())
