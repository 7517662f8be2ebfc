"""Settings of the Lightning trainer, and torch.compile for the stages of the backbone."""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from torch._dynamo.exc import BackendCompilerFailed

from phaze_ee.config.options import Options
from phaze_ee.errors import RunError, one_line
from phaze_ee.machine import (
    launched_by_torchrun,
    machine_count,
    process_count,
    process_index,
    processes_per_machine,
)
from phaze_ee.models.tagger import Tagger

_PRECISIONS: dict[str, Literal["16-mixed", "bf16-mixed"]] = {"fp16": "16-mixed", "bf16": "bf16-mixed"}
# Words in the messages of gloo, NCCL and the store of torch when the other end is gone.
_LOST = ("onnection", "peer", "gloo", "NCCL", "Broken pipe")


def hardware(options: Options, device: torch.device) -> dict[str, Any]:
    """Return the arguments of a Trainer for device and precision."""
    on_gpu = device.type == "cuda"
    return {
        "accelerator": "gpu" if on_gpu else "cpu",
        "precision": _PRECISIONS[options.amp_dtype] if options.use_amp and on_gpu else "32-true",
    }


def environment() -> list[Any]:
    """Return the plugins of a Trainer that say where its processes come from: only torchrun starts several.

    In a job of a batch system Lightning would take all tasks for processes of this training.
    """
    return [] if launched_by_torchrun() else [LightningEnvironment()]


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Suppress the advertisements and the advice of Lightning."""
    loggers = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def strategy(options: Options) -> dict[str, Any]:
    """Return the arguments of a Trainer for the number of processes and how they synchronise."""
    if not options.use_ddp and not launched_by_torchrun():
        return {"devices": 1}
    # After the backbone is frozen its parameters get no gradients, and plain DDP would wait for them.
    return {
        "strategy": "ddp_find_unused_parameters_true" if options.training_regime == "disjoint" else "ddp",
        "devices": processes_per_machine(),
        "num_nodes": machine_count(),
    }


@contextmanager
def reporting_lost_processes() -> Iterator[None]:
    """Report in one line that another process of the training has died."""
    try:
        yield
    except RuntimeError as error:
        if process_count() == 1 or not any(sign in str(error) for sign in _LOST):
            raise
        raise RunError(
            f"process {process_index()} lost another process of this training ({_cause(error)}); its own message, "
            "above or below, says why"
        ) from error


@contextmanager
def compiled_stages(tagger: Tagger) -> Iterator[None]:
    """Compile the stages of the backbone with ``torch.compile`` inside the context.

    Each stage is compiled for training and for evaluation, and once more when the length of batches begins to vary.

    Raises:
        RunError: torch cannot compile here, for example without a C++ compiler.
    """
    backbone: Any = tagger.backbone
    # By default torch compiles one function at most 8 times, then runs it uncompiled. Here each stage is one of these.
    with torch._dynamo.config.patch(recompile_limit=8 * len(backbone.stage_channels)), _quiet_compiler():
        backbone.stage = torch.compile(backbone.stage)
        try:
            yield
        except BackendCompilerFailed as error:
            raise RunError(f"torch.compile failed: {one_line(error)}; set use_compile = False") from error
        finally:
            del backbone.stage  # uncovers the method of the class


def _cause(error: RuntimeError) -> str:
    """Return the message of torch without the location in its sources, which precedes it in brackets."""
    return re.sub(r"^RuntimeError: \[[^\]]*\] ", "", one_line(error)).split(". ")[0][:100]


@contextmanager
def _quiet_compiler() -> Iterator[None]:
    """Suppress the warnings of the compiler of torch."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"torch\..*")
        yield
