"""An EdgeConv block in C++ (edge_conv.cpp), with the results of the packed form."""

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import pad

from phaze_ee.errors import RunError, UsageError
from phaze_ee.models.particle_net.folding import Affine, FoldedEdgeConv
from phaze_ee.models.particle_net.native.build import load_library
from phaze_ee.models.threads import share
from phaze_ee.shapes import Float, Int

_SOURCE = Path(__file__).with_name("edge_conv.cpp")
# Jets that a thread takes at once: enough to hide the cost of a call, few enough for idle threads to help.
_JETS = 4
_TYPE_NAMES = {torch.float32: "float", torch.float64: "double"}


class _Layer(ctypes.Structure):
    _fields_ = (
        ("weight", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("inputs", ctypes.c_int64),
        ("outputs", ctypes.c_int64),
    )


class _Block(ctypes.Structure):
    _fields_ = (
        ("k", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("dimensions", ctypes.c_int64),
        ("edge_layers", ctypes.c_int64),
        ("particle_layer", _Layer),
        ("edge_layer", ctypes.POINTER(_Layer)),
    )


def library() -> ctypes.CDLL:
    """Return the compiled kernel.

    Raises:
        UsageError: it cannot be compiled, see :func:`phaze_ee.models.particle_net.native.build.load_library`.
    """
    return load_library(_SOURCE)


@final
class EdgeConvKernel:
    """One block with its weights in the layout of the C++ code.

    The results depend neither on the threads nor on the other jets. At equal distances, the particle that comes first
    in the jet is the nearer one.

    Args:
        block: the weights, on the CPU in float32 or float64.
        dimensions: number of coordinates for the neighbour search.

    Raises:
        UsageError: the weights are on another device or of another type, or the kernel cannot be compiled.
    """

    def __init__(self, block: FoldedEdgeConv, dimensions: int) -> None:
        weight = block.per_particle.weight
        if weight.device.type != "cpu" or weight.dtype not in _TYPE_NAMES:
            raise UsageError(
                f"the native backend runs on the CPU in float32 or float64, not on {weight.device.type} in "
                f"{weight.dtype}; move the network there, or use backend='auto'"
            )
        self._dtype = weight.dtype
        name = _TYPE_NAMES[weight.dtype]
        self._run = library()[f"run_{name}"]
        self._run.restype = ctypes.c_bool
        panel = int(library()[f"panel_{name}"]())
        layers = (block.per_particle, *block.per_edge)
        self._panels = [_in_panels(layer, panel) for layer in layers]  # kept alive for the pointers into them
        particle_layer, *edge_layers = map(_describe, layers, self._panels)
        self._block = _Block(
            block.k,
            block.channels,
            dimensions,
            len(edge_layers),
            particle_layer,
            (_Layer * len(edge_layers))(*edge_layers),
        )
        self._output_channels = len(block.per_edge[-1].bias) if block.per_edge else block.channels

    def __call__(
        self,
        features_VC: Float[Tensor, "V C"],
        coordinates_VD: Float[Tensor, "V D"],
        count_N: Int[Tensor, " N"],
    ) -> Float[Tensor, "V C_out"]:
        """Return the features after the block; neighbours are searched in ``coordinates_VD``, within each jet.

        Raises:
            UsageError: the jets are of another type than the weights, or have another number of channels.
            RunError: memory ran out.
        """
        features_VC = self._checked("features", features_VC, self._block.particle_layer.inputs)
        coordinates_VD = self._checked("points", coordinates_VD, self._block.dimensions)
        first_N = pad(count_N.cumsum(0), (1, 0)).contiguous()
        assert len(features_VC) == len(coordinates_VD) == int(first_N[-1])
        out_VC = features_VC.new_empty(len(features_VC), self._output_channels)

        def work(parts: Iterator[Tensor]) -> None:
            for first_J in parts:
                succeeded = self._run(
                    ctypes.byref(self._block),
                    _pointer(features_VC),
                    _pointer(coordinates_VD),
                    _pointer(first_J),
                    ctypes.c_int64(len(first_J) - 1),
                    _pointer(out_VC),
                )
                if not succeeded:
                    raise RunError("the native backend ran out of memory; use smaller batches or fewer threads")

        share([first_N[start : start + _JETS + 1] for start in range(0, len(count_N), _JETS)], work)
        return out_VC

    def _checked(self, name: str, rows: Tensor, columns: int) -> Tensor:
        if rows.dtype != self._dtype or rows.device.type != "cpu" or rows.shape[1] != columns:
            raise UsageError(
                f"{name} have {rows.shape[1]} channels in {rows.dtype} on {rows.device.type}; the native backend of "
                f"this network takes {columns} in {self._dtype} on cpu"
            )
        return rows.contiguous()


def _in_panels(layer: Affine, panel: int) -> Affine:
    """Cut the weight into panels of ``panel`` columns, stored one after another; the last is padded with zeros."""
    missing = -len(layer.bias) % panel
    weight = pad(layer.weight, (0, missing)).view(len(layer.weight), -1, panel).transpose(0, 1).contiguous()
    return Affine(weight, pad(layer.bias, (0, missing)).contiguous())


def _describe(layer: Affine, panels: Affine) -> _Layer:
    return _Layer(_pointer(panels.weight), _pointer(panels.bias), *layer.weight.shape)


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
