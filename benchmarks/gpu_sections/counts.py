"""The operations and bytes of a batch, counted: what the work needs, whichever form does it.

Operations are two for each multiply-accumulate of the form without padding, and three times as many in training.
Bytes are those that cannot be kept on the chip between the kernels of a network, each written once and read once:

- ParticleNet in inference: of each particle and block the input, both parts of the first edge layer, the shortcut, the
  output, and k neighbours. No number of an edge is written.
- ParticleNet in training: eight passes over the numbers of all edge layers, with product, normalisation and ReLU of a
  layer in one kernel: two forward, six backward.
- Transformer: 22 numbers a channel, particle and block, and the bias of all pairs, written once and read by each block;
  three times as much in training. There, eight passes over the numbers of all layers on pairs too, as for edges.
- Its pairs alone: both indices of each, the features of particles, and the bias, written once; in training its gradient
  and those passes too.

So achieved rates are lower bounds, and a form that moves more has less of them.
"""

from typing import Any

from torch import Tensor, nn

from phaze_ee.models.tagger import Tagger
from phaze_ee.shapes import Int

_TRAINING_PASSES, _BLOCK_NUMBERS, _MOMENTUM_NUMBERS, _INDEX_BYTES, _FLOAT_BYTES = 8, 22, 7, 8, 4


def operations(tagger: Tagger, count_N: Int[Tensor, " N"], *, training: bool = False) -> float:
    """Return the floating-point operations of the full model on jets with these multiplicities."""
    form = tagger.packed() if tagger.backbone.has_packed_form else tagger
    exits = None if training else ()
    return 2.0 * float(form.walk_macs(count_N.cpu(), exits=exits)[-1].sum()) * (3 if training else 1)


def bytes_moved(tagger: Tagger, count_N: Int[Tensor, " N"], operand_bytes: int, *, training: bool = False) -> float:
    """Return the bytes that a batch has to move, with operands of this size."""
    module: Any = tagger.backbone
    particles = float(count_N.sum())
    if hasattr(module.core, "edge_convs"):
        blocks = module.core.edge_convs
        if training:
            return particles * operand_bytes * _TRAINING_PASSES * sum(map(_edge_numbers, blocks))
        return particles * sum(map(_block_bytes, blocks))
    blocks, pairs = module.core.blocks, float(count_N.square().sum())
    tokens = _BLOCK_NUMBERS * blocks[0].embed_dim * len(blocks) * particles
    bias = pairs * blocks[0].num_heads * (1 + len(blocks))
    layers = _TRAINING_PASSES * _pair_numbers(module.core.pair_embed, count_N) if training else 0.0
    return float(((tokens + bias) * (3 if training else 1) + layers) * operand_bytes)


def pair_operations(embed: Any, count_N: Int[Tensor, " N"], *, training: bool = False) -> float:
    """Return the floating-point operations of the layers of weaver's PairEmbed, on pairs that stand for both orders."""
    macs = sum(layer.weight.numel() for layer in _convolutions(embed))
    return 2.0 * macs * _pairs(count_N) * (3 if training else 1)


def pair_bytes(embed: Any, count_N: Int[Tensor, " N"], operand_bytes: int, *, training: bool = False) -> float:
    """Return the bytes that the bias of all pairs has to move."""
    read = 2 * _INDEX_BYTES * _pairs(count_N) + _MOMENTUM_NUMBERS * _FLOAT_BYTES * float(count_N.sum())
    bias = float(count_N.square().sum()) * embed.out_dim * operand_bytes
    layers = _TRAINING_PASSES * _pair_numbers(embed, count_N) * operand_bytes
    return float(2 * (read + bias) + layers if training else read + bias)


def _pair_numbers(embed: Any, count_N: Tensor) -> float:
    return _pairs(count_N) * sum(int(layer.out_channels) for layer in _convolutions(embed))


def _pairs(count_N: Tensor) -> float:
    return float((count_N.square() + count_N).sum()) / 2


def _convolutions(embed: Any) -> list[nn.Conv1d]:
    return [layer for layer in embed.embed if isinstance(layer, nn.Conv1d)]


def _edge_numbers(block: Any) -> int:
    return int(block.k * sum(layer.out_channels for layer in block.convs))


def _block_bytes(block: Any) -> int:
    first, last = block.convs[0], block.convs[-1]
    numbers = first.in_channels // 2 + 2 * (2 * first.out_channels + last.out_channels) + last.out_channels
    return int(_FLOAT_BYTES * numbers + 2 * _INDEX_BYTES * block.k)
