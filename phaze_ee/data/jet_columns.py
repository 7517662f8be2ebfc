"""Jets on their way through the loaders: standardised values of particles, which become a batch at the last moment."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from weaver.utils.data.config import DataConfig

from phaze_ee.compiled import compiled
from phaze_ee.data.schema import DataSchema
from phaze_ee.data.targets import TARGET
from phaze_ee.input_groups import InputCollection
from phaze_ee.shapes import Float, Int
from phaze_ee.slots import ragged_rows
from phaze_ee.types import (
    GLOBALS,
    JetBatch,
    JetInputs,
    Jets,
    LoadedJets,
    Padding,
    RaggedJets,
    with_collections,
)

_PIECE = 8_192  # particles


@dataclass(frozen=True)
class Group:
    """An input group of the data configuration: its kind and variables, and the values of its padded slots.

    ``padding`` has one value per variable; None: the jet's particles again.
    """

    kind: str
    names: tuple[str, ...]
    padding: tuple[float, ...] | None


@dataclass(frozen=True)
class InputLayout:
    """The variables of a collection, group after group, and the P slots that each jet is padded to."""

    length: int
    groups: tuple[Group, ...]
    collection: str = ""

    @classmethod
    def all_of(cls, schema: DataSchema) -> tuple[Self, ...]:
        """Return the layout of each collection of a data configuration, and of the numbers of the jet itself."""
        return tuple(cls._of(schema.weaver, collection) for collection in schema.inputs)

    @classmethod
    def _of(cls, config: DataConfig, collection: InputCollection) -> Self:
        groups = []
        for kind, name in collection.groups.items():
            names = tuple(config.input_dicts[name])
            params = [config.preprocess_params[variable] for variable in names]
            wrap = params[0]["pad_mode"] == "wrap"
            groups.append(Group(kind, names, None if wrap else tuple(float(own["pad_value"]) for own in params)))
        if "points" not in collection.groups:
            groups.append(Group("points", (), ()))
        return cls(collection.length, tuple(groups), collection.name)

    @property
    def is_globals(self) -> bool:
        """Whether these are numbers of the jet itself."""
        return self.collection == GLOBALS

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each of the C channels: kind and variable."""
        return tuple(f"{group.kind}.{name}" for group in self.groups for name in group.names)

    @property
    def variables(self) -> list[str]:
        """The variables, each once."""
        return list(dict.fromkeys(name for group in self.groups for name in group.names))

    @cached_property
    def padding(self) -> Padding:
        """How weaver pads these inputs."""
        return Padding(self.length, {group.kind: group.padding for group in self.groups})

    @property
    def channels(self) -> Iterator[tuple[str, slice]]:
        """Each kind with its channels."""
        first = 0
        for group in self.groups:
            yield group.kind, slice(first, first + len(group.names))
            first += len(group.names)


@dataclass(frozen=True)
class ParticleColumns:
    """The particles of one collection of some jets, at most P in each jet. Selecting jets copies no particle.

    The values are standardised and clipped: a matrix with one row per particle, or C arrays with one number per
    particle, as files have them. ``start_N`` is the first row of each jet.
    """

    layout: InputLayout
    values: Float[np.ndarray, "V C"] | list[Float[np.ndarray, " V"]]
    start_N: Int[Tensor, " N"]
    count_N: Int[Tensor, " N"]

    def __len__(self) -> int:
        return len(self.count_N)

    def __reduce__(self) -> tuple[Any, ...]:
        # As one tensor, which goes from a worker to this process through shared memory.
        values_VC, start_N = (
            (self.values, self.start_N)
            if isinstance(self.values, np.ndarray)
            else (self._matrix(), self.count_N.cumsum(0) - self.count_N)
        )
        return _unpickled, (torch.from_numpy(values_VC), replace(self, values=[], start_N=start_N).__dict__)

    @classmethod
    def of_rows(
        cls, layout: InputLayout, rows: list[Float[np.ndarray, " V"]], count_N: Int[Tensor, " N"]
    ) -> "ParticleColumns":
        """Return particles from C arrays with those of all jets, jet after jet."""
        return cls(layout, rows, count_N.cumsum(0) - count_N, count_N)

    @classmethod
    def concatenate(cls, parts: Sequence["ParticleColumns"]) -> "ParticleColumns":
        """Return the particles of all jets of some parts."""
        first = parts[0]
        count_N = torch.cat([part.count_N for part in parts])
        values_VC = np.empty((int(count_N.sum()), len(first.layout.names)), dtype=np.float32)
        last = 0
        for part in parts:
            particles = int(part.count_N.sum())
            part._write(values_VC[last : last + particles])
            last += particles
        return cls(first.layout, values_VC, count_N.cumsum(0) - count_N, count_N)

    def take(self, index_N: Tensor | slice) -> "ParticleColumns":
        """Return the particles of the jets that an index or a slice names."""
        return replace(self, start_N=self.start_N[index_N], count_N=self.count_N[index_N])

    def rows(self) -> Float[np.ndarray, "C V"]:
        """Return the values of the jets' particles alone, jet after jet, channel by channel."""
        return np.ascontiguousarray(self._matrix().T)

    def inputs(self) -> Jets:
        """Return the particles as a network takes them."""
        rows = self._rows_by_kind()
        mask_V1 = rows.pop("mask", None)
        if self.layout.is_globals:
            return RaggedJets(rows["points"], rows["features"], None, self.count_N)
        # Otherwise padding counts as real, as in weaver, or particles are left out: then only slots say which are real.
        if mask_V1 is not None and self.layout.padding.fills["mask"] == (0.0,) and bool((mask_V1 == 1).all()):
            vectors = rows.get("vectors")
            return LoadedJets(rows["points"], rows["features"], vectors, self.count_N, self.layout.padding)
        return self._padded(rows, mask_V1)

    def _padded(self, rows: dict[str, Tensor], mask_V1: Tensor | None) -> JetInputs:
        padding = self.layout.padding
        slots = {kind: padding.fill(kind, row_VC, self.count_N) for kind, row_VC in rows.items()}
        mask = (
            torch.ones(len(self), 1, padding.length) if mask_V1 is None else padding.fill("mask", mask_V1, self.count_N)
        )
        return JetInputs(slots["points"], slots["features"], slots.get("vectors"), mask)

    def _rows_by_kind(self) -> dict[str, Float[Tensor, "V _"]]:
        """Return the particles of the jets, jet after jet, one matrix for each kind of input."""
        place_V = self._places()
        if isinstance(self.values, np.ndarray):
            row_VC = torch.from_numpy(self.values)
            own_VC = (
                row_VC[place_V] if isinstance(place_V, slice) else row_VC.index_select(0, torch.from_numpy(place_V))
            )
            return {kind: own_VC[:, channels].contiguous() for kind, channels in self.layout.channels}
        matrices = {}
        for kind, channels in self.layout.channels:
            values = [column_V[place_V] for column_V in self.values[channels]]
            matrix_VC = np.empty((int(self.count_N.sum()), len(values)), dtype=np.float32)
            interleave(values, matrix_VC)
            matrices[kind] = torch.from_numpy(matrix_VC)
        return matrices

    def _matrix(self) -> Float[np.ndarray, "V C"]:
        """Return a matrix with the particles of the jets alone, jet after jet."""
        values_VC = np.empty((int(self.count_N.sum()), len(self.layout.names)), dtype=np.float32)
        self._write(values_VC)
        return values_VC

    def _write(self, output_VC: Float[np.ndarray, "V C"]) -> None:
        """Write the particles of the jets, jet after jet."""
        place_V = self._places()
        if isinstance(self.values, list):
            interleave([column_V[place_V] for column_V in self.values], output_VC)
        elif isinstance(place_V, slice):
            output_VC[:] = self.values[place_V]
        else:  # a third of the time of numpy's indexing
            torch.index_select(
                torch.from_numpy(self.values), 0, torch.from_numpy(place_V), out=torch.from_numpy(output_VC)
            )

    def _places(self) -> slice | Int[np.ndarray, " V"]:
        """Return where the particles of the jets are in the values: a slice where they follow each other."""
        if not len(self):
            return slice(0, 0)
        if bool((self.start_N[1:] == (self.start_N + self.count_N)[:-1]).all()):
            return slice(int(self.start_N[0]), int(self.start_N[-1] + self.count_N[-1]))
        places: Int[np.ndarray, " V"] = ragged_rows(self.start_N, self.count_N).numpy()
        return places


@dataclass(frozen=True)
class JetColumns:
    """Jets on their way through the loaders: the particles of each collection, classes and observers.

    ``label_N`` is -1 where the class is unknown. Targets are among the observers, under names that begin with
    :data:`phaze_ee.data.targets.TARGET`.
    """

    collections: tuple[ParticleColumns, ...]
    label_N: Int[Tensor, " N"]
    observers: dict[str, npt.NDArray[np.generic]]

    def __len__(self) -> int:
        return len(self.label_N)

    @classmethod
    def of_rows(
        cls,
        layout: InputLayout,
        rows: list[Float[np.ndarray, " V"]],
        count_N: Int[Tensor, " N"],
        label_N: Int[Tensor, " N"],
        observers: dict[str, npt.NDArray[np.generic]],
    ) -> Self:
        """Return jets with one collection, from C arrays with the particles of all jets, jet after jet."""
        return cls((ParticleColumns.of_rows(layout, rows, count_N),), label_N, observers)

    @classmethod
    def concatenate(cls, parts: Sequence["JetColumns"]) -> "JetColumns":
        """Return all jets of some parts as one."""
        first = parts[0]
        if len(parts) == 1:
            return first
        by_collection = zip(*(part.collections for part in parts), strict=True)
        observers = {name: np.concatenate([part.observers[name] for part in parts]) for name in first.observers}
        label_N = torch.cat([part.label_N for part in parts])
        return JetColumns(tuple(map(ParticleColumns.concatenate, by_collection)), label_N, observers)

    def take(self, index_N: Tensor | slice) -> "JetColumns":
        """Return the jets that an index or a slice names."""
        # As numpy: an index tensor with one element would pick a scalar instead of a column of one.
        rows = index_N if isinstance(index_N, slice) else index_N.numpy()
        return JetColumns(
            tuple(particles.take(index_N) for particles in self.collections),
            self.label_N[index_N],
            {name: column[rows] for name, column in self.observers.items()},
        )

    def batch(self) -> JetBatch:
        """Return the jets as a network takes them."""
        first, *others = [particles.inputs() for particles in self.collections]
        if others:
            names = [particles.layout.collection for particles in self.collections[1:]]
            first = with_collections(first, dict(zip(names, others, strict=True)))
        targets = [name for name in self.observers if name.startswith(TARGET)]
        if not targets:
            return JetBatch(first, self.label_N, self.observers)
        target_NR = torch.from_numpy(np.stack([self.observers[name] for name in targets], axis=1))
        observers = {name: column for name, column in self.observers.items() if name not in targets}
        return JetBatch(first, self.label_N, observers, target_NR)


def interleave(rows: Sequence[Float[np.ndarray, " V"]], output_VC: Float[np.ndarray, "V C"]) -> None:
    """Write C arrays of V numbers as V rows of C numbers."""
    fours = len(rows) - len(rows) % 4
    # A piece stays in the processor's cache while its columns are written.
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
    """Write some particles of four arrays as columns from ``channel`` on: twice as fast as one array at a time."""
    for place in range(start, stop):
        output_VC[place, channel] = one_V[place]
        output_VC[place, channel + 1] = two_V[place]
        output_VC[place, channel + 2] = three_V[place]
        output_VC[place, channel + 3] = four_V[place]


def _unpickled(values_VC: Tensor, others: dict[str, Any]) -> ParticleColumns:
    return ParticleColumns(**{**others, "values": values_VC.numpy()})
