"""The architecture of a ParticleNet, from the shapes of its weights."""

from collections.abc import Iterable, Mapping
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from torch import Tensor

from phaze_ee.errors import CheckpointError

# Values of the published networks that do not follow from shapes: the neighbours of an EdgeConv block, and the dropout,
# which has no effect on a frozen network.
NEIGHBOURS = 16
_DROPOUT = 0.1


def particle_net_arguments(weights: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the arguments of weaver's ParticleNet: input_dims, conv_params, fc_params and switches.

    Args:
        weights: the weights of weaver's module, or of a wrapper that holds it as ``mod``.
        path: their file, for the error.

    Raises:
        CheckpointError: they are not those of a ParticleNet.
    """
    shape = {
        key.removeprefix("mod."): tuple(value.shape) for key, value in weights.items() if isinstance(value, Tensor)
    }
    blocks = [
        [out for out, *_ in _shapes(shape, (f"edge_convs.{block}.convs.{layer}.weight" for layer in count()))]
        for block in takewhile(lambda block: f"edge_convs.{block}.convs.0.weight" in shape, count())
    ]
    if not blocks or len(shape["edge_convs.0.convs.0.weight"]) < 2:
        raise CheckpointError(
            f"{path} holds no ParticleNet that could be recognised; create a project with -m new_project, describe the "
            "network there (model_name, network_options …), and run retrofit again"
        )
    return {
        "input_dims": shape["edge_convs.0.convs.0.weight"][1] // 2,
        "conv_params": [(NEIGHBOURS, tuple(channels)) for channels in blocks],
        "fc_params": [(out, _DROPOUT) for out, *_ in _shapes(shape, (f"fc.{layer}.0.weight" for layer in count()))],
        "use_fusion": "fusion_block.0.weight" in shape,
        "use_fts_bn": "bn_fts.weight" in shape,
    }


def _shapes(shape: Mapping[str, tuple[int, ...]], keys: Iterable[str]) -> list[tuple[int, ...]]:
    return [shape[key] for key in takewhile(shape.__contains__, keys)]
