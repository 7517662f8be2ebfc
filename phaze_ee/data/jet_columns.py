"""Jets as the loaders carry them: standardised inputs without padding, which a batch gets at the last moment."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from phaze_ee.compiled import compiled
from phaze_ee.data.schema import DataSchema
from phaze_ee.types import JetBatch, JetInputs

_PIECE = 8_192  # particles


@dataclass(frozen=True)
class Group:
    """An input group of the data configuration: its variables, and what stands in slots without a particle."""

    kind: str
    names: tuple[str, ...]
    wrap: bool  # the particles again and again; otherwise the values of ``padding``
    padding: tuple[float, ...]


@dataclass(frozen=True)
class InputLayout:
    """Which variables the inputs consist of, group after group, and the P slots that each jet is padded to."""

    length: int
    groups: tuple[Group, ...]

    @classmethod
    def of(cls, schema: DataSchema) -> Self:
        """Return the layout of a data configuration."""
        config = schema.weaver
        groups = []
        for kind, name in schema.groups.items():
            names = tuple(config.input_dicts[name])
            params = [config.preprocess_params[variable] for variable in names]
            padding = tuple(float(own["pad_value"]) for own in params)
            groups.append(Group(kind, names, params[0]["pad_mode"] == "wrap", padding))
        return cls(schema.length, tuple(groups))

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each of the C channels: kind and variable."""
        return tuple(f"{group.kind}.{name}" for group in self.groups for name in group.names)


@dataclass(frozen=True)
class JetColumns:
    """Jets as the values of particles, with at most P particles each; taking some of the jets copies no particle.

    The values are standardised and clipped: one matrix with a row a particle, or C rows with one number a particle, as
    files have them. ``start_N`` is where the particles of each jet begin in them. ``label_N`` is -1 where the class is
    unknown.
    """

    layout: InputLayout
    values: Float[np.ndarray, "V C"] | list[Float[np.ndarray, " V"]]
    start_N: Int[Tensor, " N"]
    count_N: Int[Tensor, " N"]
    label_N: Int[Tensor, " N"]
    observers: dict[str, npt.NDArray[np.generic]]

    def __len__(self) -> int:
        return len(self.count_N)

    def __reduce__(self) -> tuple[Any, ...]:
        # as one tensor, which goes from a worker to this process through shared memory
        values_VC, start_N = self._matrix()
        return _unpickled, (torch.from_numpy(values_VC), replace(self, values=[], start_N=start_N).__dict__)

    @classmethod
    def of_rows(
        cls,
        layout: InputLayout,
        rows: list[Float[np.ndarray, " V"]],
        count_N: Int[Tensor, " N"],
        label_N: Int[Tensor, " N"],
        observers: dict[str, npt.NDArray[np.generic]],
    ) -> Self:
        """Return jets whose particles stand one jet after the other."""
        return cls(layout, rows, count_N.cumsum(0) - count_N, count_N, label_N, observers)

    @classmethod
    def of_padded(cls, layout: InputLayout, batch: JetBatch) -> Self:
        """Return jets of which every slot counts as a particle."""
        groups = [getattr(batch.inputs, group.kind) for group in layout.groups]
        values_CV = torch.cat(groups, dim=1).transpose(0, 1).flatten(1).numpy()
        count_N = torch.full((len(batch),), layout.length)
        return cls.of_rows(layout, list(values_CV), count_N, batch.label_N, batch.observers)

    @classmethod
    def concatenate(cls, parts: Sequence["JetColumns"]) -> "JetColumns":
        """Return all jets of some parts as one."""
        first = parts[0]
        if len(parts) == 1:
            return first
        count_N = torch.cat([part.count_N for part in parts])
        values_VC = np.empty((int(count_N.sum()), len(first.layout.names)), dtype=np.float32)
        last = 0
        for part in parts:
            particles = int(part.count_N.sum())
            part._write(values_VC[last : last + particles])
            last += particles
        observers = {name: np.concatenate([part.observers[name] for part in parts]) for name in first.observers}
        label_N = torch.cat([part.label_N for part in parts])
        return JetColumns(first.layout, values_VC, count_N.cumsum(0) - count_N, count_N, label_N, observers)

    def take(self, index_N: Tensor | slice) -> "JetColumns":
        """Return the jets that an index or a slice names."""
        # as numpy: an index tensor with one element would pick a scalar instead of a column of one
        rows = index_N if isinstance(index_N, slice) else index_N.numpy()
        return replace(
            self,
            start_N=self.start_N[index_N],
            count_N=self.count_N[index_N],
            label_N=self.label_N[index_N],
            observers={name: column[rows] for name, column in self.observers.items()},
        )

    def rows(self) -> Float[np.ndarray, "C V"]:
        """Return the values of the jets' particles alone, one jet after the other, channel by channel."""
        values_VC = np.empty((int(self.count_N.sum()), len(self.layout.names)), dtype=np.float32)
        self._write(values_VC)
        return np.ascontiguousarray(values_VC.T)

    def padded(self) -> JetBatch:
        """Return the jets as a network takes them, padded to P particles as weaver pads them."""
        values_VC, start_N = self._matrix()
        tensors, channel = {}, 0
        for group in self.layout.groups:
            output = np.empty((len(self), len(group.names), self.layout.length), dtype=np.float32)
            padding_C = np.asarray(group.padding, dtype=np.float32)
            pad_particles(values_VC, channel, start_N.numpy(), self.count_N.numpy(), group.wrap, padding_C, output)
            tensors[group.kind] = torch.from_numpy(output)
            channel += len(group.names)
        # without a mask group every slot counts as real, as in weaver
        mask = tensors.get("mask", torch.ones(len(self), 1, self.layout.length))
        inputs = JetInputs(tensors["points"], tensors["features"], tensors.get("vectors"), mask)
        return JetBatch(inputs, self.label_N, self.observers)

    def _matrix(self) -> tuple[Float[np.ndarray, "V C"], Int[Tensor, " N"]]:
        """Return a matrix with the particles of the jets, perhaps among others, and where each jet begins in it."""
        if isinstance(self.values, np.ndarray):
            return self.values, self.start_N
        values_VC = np.empty((int(self.count_N.sum()), len(self.values)), dtype=np.float32)
        self._write(values_VC)
        return values_VC, self.count_N.cumsum(0) - self.count_N

    def _write(self, output_VC: Float[np.ndarray, "V C"]) -> None:
        """Write the particles of the jets, one jet after the other."""
        if not len(self):
            return
        first = int(self.start_N[0])
        together = bool((self.start_N[1:] == (self.start_N + self.count_N)[:-1]).all())
        places = slice(first, first + len(output_VC)) if together else self._places()
        if isinstance(self.values, np.ndarray):
            output_VC[:] = self.values[places]
        else:
            interleave([row_V[places] for row_V in self.values], output_VC)

    def _places(self) -> npt.NDArray[np.int64]:
        shift_N = self.start_N - (self.count_N.cumsum(0) - self.count_N)
        shift_V = shift_N.repeat_interleave(self.count_N)
        places: npt.NDArray[np.int64] = (shift_V + torch.arange(len(shift_V))).numpy()
        return places


def interleave(rows: Sequence[Float[np.ndarray, " V"]], output_VC: Float[np.ndarray, "V C"]) -> None:
    """Write C rows of V numbers as V rows of C numbers."""
    fours = len(rows) - len(rows) % 4
    # pieces stay in the processor's cache while their columns are written
    for start in range(0, len(output_VC), _PIECE):
        stop = min(start + _PIECE, len(output_VC))
        for channel in range(0, fours, 4):
            one_V, two_V, three_V, four_V = rows[channel : channel + 4]
            write_four(one_V, two_V, three_V, four_V, start, stop, channel, output_VC)
        for channel in range(fours, len(rows)):
            output_VC[start:stop, channel] = rows[channel][start:stop]


@compiled
def write_four(
    one_V: Float[np.ndarray, " V"],
    two_V: Float[np.ndarray, " V"],
    three_V: Float[np.ndarray, " V"],
    four_V: Float[np.ndarray, " V"],
    start: int,
    stop: int,
    channel: int,
    output_VC: Float[np.ndarray, "V C"],
) -> None:
    """Write some particles of four rows as columns, from ``channel`` on: twice as fast as one row at a time."""
    for place in range(start, stop):
        output_VC[place, channel] = one_V[place]
        output_VC[place, channel + 1] = two_V[place]
        output_VC[place, channel + 2] = three_V[place]
        output_VC[place, channel + 3] = four_V[place]


@compiled
def pad_particles(
    values_VC: Float[np.ndarray, "V C"],
    first: int,
    start_N: Int[np.ndarray, " N"],
    count_N: Int[np.ndarray, " N"],
    wrap: bool,
    padding_C: Float[np.ndarray, " C"],
    output_NCP: Float[np.ndarray, "N C P"],
) -> None:
    """Fill the slots of jets with some channels of their particles, and the slots behind them.

    weaver's own kernels take particles channel by channel and one jet after the other: jets in random order would first
    have to be copied, which costs more than the padding.

    Args:
        values_VC: the particles of the jets, perhaps among others.
        first: the first of the channels that are wanted.
        start_N: where the particles of each jet begin.
        count_N: how many it has, at most P.
        wrap: whether the particles are repeated behind them; otherwise ``padding_C`` stands there.
        padding_C: what stands in slots without a particle.
        output_NCP: is written.
    """
    slots = np.uint64(output_NCP.shape[2])
    for jet in range(output_NCP.shape[0]):
        # unsigned, or each access would ask whether the index counts from the end, which halves the speed
        start, count = np.uint64(start_N[jet]), np.uint64(count_N[jet])
        for channel in range(output_NCP.shape[1]):
            row_P = output_NCP[jet, channel]
            column = np.uint64(first + channel)
            for place in range(count):
                row_P[place] = values_VC[start + place, column]
            if wrap and count > 0:
                filled = count
                while filled < slots:  # twice as many each time
                    width = min(filled, slots - filled)
                    behind_P = row_P[filled:]
                    for place in range(width):
                        behind_P[place] = row_P[place]
                    filled += width
            else:
                # weaver: a jet without particles has zeros where others would be repeated
                row_P[count:] = 0 if wrap else padding_C[channel]


def _unpickled(values_VC: Tensor, others: dict[str, Any]) -> JetColumns:
    return JetColumns(**{**others, "values": values_VC.numpy()})
