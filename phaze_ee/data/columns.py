"""Jets as the loaders carry them: standardised inputs without padding, which a batch gets at the last moment."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor
from weaver.utils.data.tools import _batched_fused_constant_pad, _batched_fused_repeat_pad

from phaze_ee.data.schema import DataSchema
from phaze_ee.types import JetBatch, JetInputs, select_ragged


@dataclass(frozen=True)
class Group:
    """An input group of the data configuration: its variables, and what stands in slots without a particle."""

    kind: str
    names: tuple[str, ...]
    wrap: bool  # the particles again and again; otherwise the values of ``padding``
    padding: tuple[float, ...]

    def pad(
        self,
        content: npt.NDArray[np.float32],
        starts: npt.NDArray[np.int64],
        offsets: npt.NDArray[np.int64],
        length: int,
    ) -> npt.NDArray[np.float32]:
        """Return the variables, (N, C, P), by weaver's own kernels.

        Args:
            content: the values of all particles, variable after variable.
            starts: where the values of each variable of this group begin in it.
            offsets: where each jet begins among the particles, and the end.
            length: P.
        """
        output = np.zeros((len(offsets) - 1, len(self.names), length), dtype=np.float32)
        unused = np.zeros(len(self.names), dtype=np.float32)
        arguments = (content, starts, offsets, unused, unused, unused, unused, unused.astype(bool))
        if self.wrap:
            _batched_fused_repeat_pad(*arguments, output)
        else:
            _batched_fused_constant_pad(*arguments, np.asarray(self.padding, dtype=np.float32), output)
        return output


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
    """Jets as rows of particle values, one row a channel, with at most P particles each.

    The values are standardised and clipped. The rows are those of one matrix, or stand on their own as they come from a
    file: joining them is the first time that they are copied. ``label_N`` is -1 where the class is unknown.
    """

    layout: InputLayout
    values_CV: Float[np.ndarray, "C V"] | list[Float[np.ndarray, " V"]]
    count_N: Int[Tensor, " N"]
    label_N: Int[Tensor, " N"]
    observers: dict[str, npt.NDArray[np.generic]]

    def __len__(self) -> int:
        return len(self.count_N)

    def __reduce__(self) -> tuple[Any, ...]:
        # as one tensor, which goes from a worker to this process through shared memory
        values_CV = torch.from_numpy(np.asarray(self.values_CV))
        return _unpickled, (self.layout, values_CV, self.count_N, self.label_N, self.observers)

    @classmethod
    def of_padded(cls, layout: InputLayout, batch: JetBatch) -> Self:
        """Return jets of which every slot counts as a particle."""
        groups = [getattr(batch.inputs, group.kind) for group in layout.groups]
        values_CV = torch.cat(groups, dim=1).transpose(0, 1).flatten(1).numpy()
        count_N = torch.full((len(batch),), layout.length)
        return cls(layout, values_CV, count_N, batch.label_N, batch.observers)

    @classmethod
    def concatenate(cls, parts: Sequence["JetColumns"]) -> "JetColumns":
        """Return all jets of some parts as one."""
        first = parts[0]
        if len(parts) == 1:
            return first
        particles = sum(len(part.values_CV[0]) for part in parts)
        values_CV = np.empty((len(first.values_CV), particles), dtype=np.float32)
        for channel, row_V in enumerate(values_CV):
            np.concatenate([part.values_CV[channel] for part in parts], out=row_V)
        return JetColumns(
            first.layout,
            values_CV,
            torch.cat([part.count_N for part in parts]),
            torch.cat([part.label_N for part in parts]),
            {name: np.concatenate([part.observers[name] for part in parts]) for name in first.observers},
        )

    def take(self, index_N: Tensor | slice) -> "JetColumns":
        """Return the jets that an index or a slice (with step 1) names."""
        if isinstance(index_N, slice):
            start, stop, _ = index_N.indices(len(self))
            first, last = int(self.count_N[:start].sum()), int(self.count_N[:stop].sum())
            values_CV: Any = [row_V[first:last] for row_V in self.values_CV]
            count_N = self.count_N[index_N]
        else:
            row_V, count_N = select_ragged(self.count_N, index_N)
            # torch: twice as fast as numpy here
            values_CV = torch.from_numpy(np.asarray(self.values_CV)).index_select(1, row_V).numpy()
        # as numpy: an index tensor with one element would pick a scalar instead of a column of one
        rows = index_N if isinstance(index_N, slice) else index_N.numpy()
        observers = {name: column[rows] for name, column in self.observers.items()}
        return replace(self, values_CV=values_CV, count_N=count_N, label_N=self.label_N[index_N], observers=observers)

    def padded(self) -> JetBatch:
        """Return the jets as a network takes them, padded to P particles exactly as weaver pads them."""
        values_CV = np.ascontiguousarray(self.values_CV)
        offsets = np.concatenate([[0], np.cumsum(self.count_N.numpy())])
        tensors, channel = {}, 0
        for group in self.layout.groups:
            starts = np.arange(channel, channel + len(group.names)) * values_CV.shape[1]
            tensors[group.kind] = torch.from_numpy(
                group.pad(values_CV.reshape(-1), starts, offsets, self.layout.length)
            )
            channel += len(group.names)
        # without a mask group every slot counts as real, as in weaver
        mask = tensors.get("mask", torch.ones(len(self), 1, self.layout.length))
        inputs = JetInputs(tensors["points"], tensors["features"], tensors.get("vectors"), mask)
        return JetBatch(inputs, self.label_N, self.observers)


def _unpickled(layout: InputLayout, values_CV: Tensor, *others: Any) -> JetColumns:
    return JetColumns(layout, values_CV.numpy(), *others)
