"""torch.compile for the part of a training that costs."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._dynamo.exc import BackendCompilerFailed

from phaze_ee.errors import RunError, one_line
from phaze_ee.models.tagger import Tagger


@contextmanager
def compiled_stages(tagger: Tagger) -> Iterator[None]:
    """Run the backbone's stages through ``torch.compile`` for a while.

    Each stage is compiled for training and for evaluation, and once more when the length of batches begins to vary.

    Raises:
        RunError: torch cannot compile here, for example without a C++ compiler.
    """
    backbone: Any = tagger.backbone
    # torch gives up, and goes on uncompiled, at 8 forms of one function; here each stage has its own
    with torch._dynamo.config.patch(recompile_limit=8 * len(backbone.stage_channels)), _quiet_compiler():
        backbone.stage = torch.compile(backbone.stage)
        try:
            yield
        except BackendCompilerFailed as error:
            raise RunError(f"torch.compile failed: {one_line(error)}; set use_compile = False") from error
        finally:
            del backbone.stage  # the method of the class shows again


@contextmanager
def _quiet_compiler() -> Iterator[None]:
    """Keep what torch says to the authors of its compiler out of a user's terminal."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"torch\..*")
        yield
