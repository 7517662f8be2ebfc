"""The end of an EdgeConv block in training: mean over neighbours, shortcut and ReLU, and their gradients."""

from typing import Any, NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from phaze_ee.kernels.activations import activated
from phaze_ee.kernels.edge_backward import added
from phaze_ee.kernels.edge_forward import TYPES, Edges, sums_of, tile_of, warps_of, width_of
from phaze_ee.kernels.edge_numbers import normalised, number, store_gradient_sums, summed_through_normalisation
from phaze_ee.kernels.rounding import FUSED
from phaze_ee.kernels.sizes import tiles_of
from phaze_ee.shapes import Float

_TOGETHER = 16  # particles of a program that goes over their neighbours


class Shortcut(NamedTuple):
    """What is added to the mean over neighbours of V particles.

    Attributes:
        value_VC: the features before the block, or a layer on them before its normalisation; its rows may be those of a
            wider tensor.
        constant_6C: of the normalisation, as for edge layers; None: there is none.
    """

    value_VC: Float[Tensor, "V C"]
    constant_6C: Float[Tensor, "6 C"] | None

    def arguments(self) -> dict[str, Any]:
        """Return what the kernels need to read it."""
        return {
            "shortcut": self.value_VC,
            "shortcut_constant": self.value_VC if self.constant_6C is None else self.constant_6C,
            "SHORTCUT_PITCH": self.value_VC.stride(0),
            "NORMALISED": self.constant_6C is not None,
        }


def block_features(
    edges: Edges, stored: Float[Tensor, "E C"] | None, constant_6C: Float[Tensor, "6 C"], shortcut: Shortcut
) -> Float[Tensor, "V C"]:
    """Return the features after a block, in the type of sums.

    Args:
        edges: the first layer.
        stored: the numbers of the last layer; None: it is the first.
        constant_6C: scale and shift of its normalisation, in the first two rows.
        shortcut: of the V real particles.
    """
    particles, channels = shortcut.value_VC.shape
    width = width_of(channels)
    out_VC = constant_6C.new_empty(particles, channels)
    if particles:
        launch: Any = _block_features[(tiles_of(particles, _TOGETHER),)]
        launch(
            particles=particles,
            constant=constant_6C,
            out=out_VC,
            TOGETHER=_TOGETHER,
            WIDTH=width,
            num_warps=warps_of(width),
            **shortcut.arguments(),
            **edges.arguments(stored, channels),
        )
    return out_VC


def gradient_before_relu(
    out_VC: Float[Tensor, "V C"], given_VC: Float[Tensor, "V C"], shortcut: Shortcut
) -> tuple[Float[Tensor, "V C"], Float[Tensor, "2 C"] | None]:
    """Return the gradient of mean and shortcut, its sum over particles, and that of it times z − μ of the shortcut.

    Without a normalisation of the shortcut there are no sums.

    Args:
        out_VC: of :func:`block_features`.
        given_VC: its gradient.
        shortcut: as there.
    """
    particles, channels = out_VC.shape
    width = width_of(channels)
    tile = tile_of(width, out_VC.dtype, backward=True)
    before_VC = out_VC.new_empty(particles, channels)
    sums_T2C = out_VC.new_empty(tiles_of(particles, tile), 2, channels)
    if particles:
        launch: Any = _gradient_before_relu[(len(sums_T2C),)]
        launch(
            rows=particles,
            after=out_VC,
            given=given_VC,
            before=before_VC,
            sums_out=sums_T2C,
            **_sizes(out_VC, tile, width),
            **shortcut.arguments(),
        )
    return before_VC, None if shortcut.constant_6C is None else added(sums_T2C)


def shortcut_gradient(given_VC: Float[Tensor, "V C"], shortcut: Shortcut, out_VC: Float[Tensor, "V C"]) -> None:
    """Compute the gradient of a shortcut before its normalisation.

    Args:
        given_VC: the gradient after it.
        shortcut: with the factors of the gradient.
        out_VC: the gradient is written here, into columns of another tensor.
    """
    particles, channels = given_VC.shape
    width = width_of(channels)
    tile = tile_of(width, given_VC.dtype, backward=True)
    if particles:
        launch: Any = _shortcut_gradient[(tiles_of(particles, tile),)]
        launch(
            rows=particles,
            given=given_VC,
            out=out_VC,
            OUT_PITCH=out_VC.stride(0),
            **_sizes(given_VC, tile, width),
            **shortcut.arguments(),
        )


def _sizes(value_VC: Tensor, tile: int, width: int) -> dict[str, Any]:
    return {
        "CHANNELS": value_VC.shape[1],
        "SUM": TYPES[sums_of(value_VC.dtype)],
        "ROWS": tile,
        "WIDTH": width,
        "num_warps": warps_of(width),
        **FUSED,
    }


@triton.jit
def _block_features(
    own, other, stored, neighbours, weight, particles, constant, shortcut, shortcut_constant, out,
    K: tl.constexpr, CHANNELS: tl.constexpr, PITCH: tl.constexpr, GATHERED: tl.constexpr, SUM: tl.constexpr,
    SHORTCUT_PITCH: tl.constexpr, NORMALISED: tl.constexpr, TOGETHER: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    particle = tl.program_id(0).to(tl.int64) * TOGETHER + tl.arange(0, TOGETHER)
    channel = tl.arange(0, WIDTH)
    real = particle < particles
    inside = real[:, None] & (channel < CHANNELS)[None, :]
    total = tl.zeros([TOGETHER, WIDTH], SUM)
    for slot in range(K):
        found = number(
            own, other, stored, neighbours, particle * K + slot, channel, real, K, CHANNELS, PITCH, GATHERED, SUM
        )  # fmt: skip
        total += activated(normalised(found, constant, channel, CHANNELS), "relu")
    place = particle[:, None] * SHORTCUT_PITCH + channel[None, :]
    added = tl.load(shortcut + place, mask=inside, other=0.0).to(SUM)
    if NORMALISED:
        added = normalised(added, shortcut_constant, channel, CHANNELS)
    after = activated(total / K + added, "relu")
    tl.store(out + particle[:, None] * CHANNELS + channel[None, :], after, mask=inside)


@triton.jit
def _gradient_before_relu(
    rows, after, given, before, shortcut, shortcut_constant, sums_out,
    CHANNELS: tl.constexpr, SUM: tl.constexpr, SHORTCUT_PITCH: tl.constexpr, NORMALISED: tl.constexpr,
    ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0).to(tl.int64)
    row = tile * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, WIDTH)
    inside = (row < rows)[:, None] & (channel < CHANNELS)[None, :]
    place = row[:, None] * CHANNELS + channel[None, :]
    passed = tl.load(after + place, mask=inside, other=0.0)
    gradient = tl.load(given + place, mask=inside, other=0.0).to(SUM)
    gradient = tl.where(passed <= 0, 0.0, gradient)  # a NaN lets it pass, as in torch
    tl.store(before + place, gradient, mask=inside)
    if NORMALISED:
        found = tl.load(shortcut + row[:, None] * SHORTCUT_PITCH + channel[None, :], mask=inside, other=0.0).to(SUM)
        store_gradient_sums(found, gradient, shortcut_constant, channel, tile, sums_out, CHANNELS)


@triton.jit
def _shortcut_gradient(
    rows, given, shortcut, shortcut_constant, out,
    CHANNELS: tl.constexpr, SUM: tl.constexpr, SHORTCUT_PITCH: tl.constexpr, NORMALISED: tl.constexpr,
    OUT_PITCH: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, WIDTH)
    real = row < rows
    inside = real[:, None] & (channel < CHANNELS)[None, :]
    after = tl.load(given + row[:, None] * CHANNELS + channel[None, :], mask=inside, other=0.0)
    found = tl.load(shortcut + row[:, None] * SHORTCUT_PITCH + channel[None, :], mask=inside, other=0.0).to(SUM)
    here = summed_through_normalisation(found, after, real.to(SUM), shortcut_constant, channel, CHANNELS)
    tl.store(out + row[:, None] * OUT_PITCH + channel[None, :], here.to(out.dtype.element_ty), mask=inside)
