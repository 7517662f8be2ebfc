"""What the kernels of a training share: the numbers of edges, their gradients, and sums over a tile of edges.

An edge of U particles with k neighbours each is a row e of U·k; its particle is e // k. The first layer is not stored:
its number is the sum of the particle's own part and the neighbour's part. Rows that are no edges of particles, such as
pairs, have k = 0: all their layers are stored.
"""

import triton
import triton.language as tl

from phaze_ee.kernels.activations import through_activation


@triton.jit
def number(
    own, other, stored, neighbours, edge, channel, real,
    K: tl.constexpr, CHANNELS: tl.constexpr, PITCH: tl.constexpr, GATHERED: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """Return numbers of a layer before its normalisation, (edges, channels); zero where there is no edge.

    ``PITCH`` is the number of columns of what they are read from: of the stored layer, or of both parts.
    """
    read = real[:, None] & (channel < CHANNELS)[None, :]
    if GATHERED:
        neighbour = tl.load(neighbours + edge, mask=real, other=0)
        found = tl.load(own + (edge // K)[:, None] * PITCH + channel[None, :], mask=read, other=0.0).to(SUM)
        found += tl.load(other + neighbour[:, None] * PITCH + channel[None, :], mask=read, other=0.0).to(SUM)
    else:
        found = tl.load(stored + edge[:, None] * PITCH + channel[None, :], mask=read, other=0.0).to(SUM)
    return found


@triton.jit
def per_channel(constant, row, channel, CHANNELS: tl.constexpr):
    """Return a row of constants of each channel, (1, channels)."""
    return tl.load(constant + row * CHANNELS + channel, mask=channel < CHANNELS, other=0.0)[None, :]


@triton.jit
def normalised(found, constant, channel, CHANNELS: tl.constexpr):
    """Return scale · number + shift, before the activation."""
    return found * per_channel(constant, 0, channel, CHANNELS) + per_channel(constant, 1, channel, CHANNELS)


@triton.jit
def counted(weight, edge, real, K: tl.constexpr):
    """Return how often edges count in statistics: by the weight of their particle; other rows count once."""
    return real.to(tl.float32) if K == 0 else tl.load(weight + edge // K, mask=real, other=0.0)


@triton.jit
def gradient(
    found, constant, given, edge, channel, real, particles,
    K: tl.constexpr, CHANNELS: tl.constexpr, LAST: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """Return the gradient of normalised numbers, before the activation.

    For the last layer of edges, ``given`` is that of the mean over the k neighbours of each real particle, after a
    ReLU. Edges of padded slots have none. For other layers it is that of rows, and holds the activation already.
    """
    inside = channel < CHANNELS
    if LAST:
        particle = edge // K
        read = (real & (particle < particles))[:, None] & inside[None, :]
        one = tl.load(given + particle[:, None] * CHANNELS + channel[None, :], mask=read, other=0.0).to(SUM)
        one = through_activation(one / K, normalised(found, constant, channel, CHANNELS), "relu")
    else:
        read = real[:, None] & inside[None, :]
        one = tl.load(given + edge[:, None] * CHANNELS + channel[None, :], mask=read, other=0.0).to(SUM)
    return one


@triton.jit
def through_normalisation(
    found, after, constant, weight, edge, channel, real, K: tl.constexpr, CHANNELS: tl.constexpr
):  # fmt: skip
    """Return the gradient of numbers: that after the normalisation, and those through its mean and variance."""
    times = counted(weight, edge, real, K)
    return summed_through_normalisation(times[:, None] * found, after, times, constant, channel, CHANNELS)


@triton.jit
def summed_through_normalisation(found, after, times, constant, channel, CHANNELS: tl.constexpr):
    """Return the same for sums over edges of weight · number, of gradients after the normalisation, and of weights."""
    direct, slope = per_channel(constant, 2, channel, CHANNELS), per_channel(constant, 3, channel, CHANNELS)
    return direct * after + slope * found + times[:, None] * per_channel(constant, 4, channel, CHANNELS)


@triton.jit
def store_statistics(
    found, weight, edge, channel, real, tile, mean_out, square_out, total_out,
    K: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Store the weighted mean of a tile, the sum of squares of the differences to it, and the sum of weights."""
    times = counted(weight, edge, real, K)
    total = tl.sum(times, axis=0)
    mean = tl.sum(times[:, None] * found, axis=0) / tl.where(total > 0, total, 1.0)
    difference = found - mean[None, :]
    square = tl.sum(times[:, None] * difference * difference, axis=0)
    stored = tile * CHANNELS + channel
    tl.store(mean_out + stored, mean, mask=channel < CHANNELS)
    tl.store(square_out + stored, square, mask=channel < CHANNELS)
    tl.store(total_out + tile, total)


@triton.jit
def store_gradient_sums(found, after, constant, channel, tile, sums_out, CHANNELS: tl.constexpr):
    """Store the sum of gradients of a tile, and that of gradients times differences to the mean."""
    difference = found - per_channel(constant, 5, channel, CHANNELS)
    stored = 2 * tile * CHANNELS + channel
    tl.store(sums_out + stored, tl.sum(after, axis=0), mask=channel < CHANNELS)
    tl.store(sums_out + stored + CHANNELS, tl.sum(after * difference, axis=0), mask=channel < CHANNELS)
