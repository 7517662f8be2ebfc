"""The particles of jets in a file that is being written: of one jet, or of all jets of a call."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self, final

import torch
from torch import Tensor, nn

from phaze_ee.export.operations import binary, cast, reduce, where
from phaze_ee.export.shaping import cat, gather, rows_between, unsqueeze
from phaze_ee.export.values import Value, constant, integers, node
from phaze_ee.types import State


@final
@dataclass(frozen=True)
class ManyJets:
    """Which rows belong to which jet. After the jets of the call comes one without particles, so that there is one.

    Attributes:
        valid_NP: which slots hold a particle; there is at least one slot.
        count_N: the particles of each jet.
        end_N: one more than the row of the last particle of each jet.
        slots_N: the slots of each jet up to its last particle.
    """

    valid_NP: Value
    count_N: Value
    end_N: Value
    slots_N: Value


@final
@dataclass(frozen=True)
class OneJet:
    """A jet with at least one particle: the number of its particles, and of its slots up to the last one; both (1,)."""

    count: Value
    slots: Value


@final
@dataclass(frozen=True)
class FileState(State):
    """The particles of one jet, or of all jets of a call, with the channels that the network has computed.

    The particles of many jets are followed by one row more, whose content is arbitrary, because old versions of ONNX
    Runtime fail on no rows at all.

    Attributes:
        rows_VC: the channels.
        jets: how the rows are divided into jets.
        others: what else the network needs of each particle or of the jet.
        more: further collections of the same jets, by name, before they are put together.
    """

    rows_VC: Value
    jets: ManyJets | OneJet
    others: Mapping[str, Value] = field(default_factory=dict)
    more: Mapping[str, "FileState"] = field(default_factory=dict)

    def __len__(self) -> int:
        return 1  # asked for only when a jet is on its way

    @property
    def count(self) -> Value:
        """The number of particles of the one jet, (1,)."""
        assert isinstance(self.jets, OneJet)
        return self.jets.count

    @property
    def total_count(self) -> Value:
        """The number of particles in all collections, of the one jet (1,) or of each jet (N)."""
        own: Value = self.counts()
        return sum((state.total_count for state in self.more.values()), start=own)

    @property
    def slots(self) -> Value:
        """The slots of the one jet up to its last particle, (1,)."""
        assert isinstance(self.jets, OneJet)
        return self.jets.slots

    def select(self, keep_N: Tensor | Value) -> Self:
        """Return the jet with a number, of shape (1,)."""
        assert isinstance(self.jets, ManyJets)
        assert isinstance(keep_N, Value)
        count, end, slots = (gather(value, keep_N) for value in (self.jets.count_N, self.jets.end_N, self.jets.slots_N))
        first = binary("Sub", end, count)
        rows = {name: rows_between(value, first, end) for name, value in self.others.items()}
        more = {name: state.select(keep_N) for name, state in self.more.items()}
        own = rows_between(self.rows_VC, first, end)
        return replace(self, rows_VC=own, jets=OneJet(count, slots), others=rows, more=more)

    def detach(self) -> Self:
        return self

    def map(self, per_particle: nn.Module) -> Self:
        return replace(self, rows_VC=per_particle(self.rows_VC))

    def with_others(self, **others: Value) -> Self:
        """Return the state with more values to keep."""
        return replace(self, others={**self.others, **others})

    def pool(self, kind: Literal["mean", "max"]) -> Any:
        if isinstance(self.jets, OneJet):
            return reduce({"mean": "ReduceMean", "max": "ReduceMax"}[kind], self.rows_VC, 0, keepdim=True)
        return _pool_many(self.rows_VC, self.jets, kind)

    def rows(self) -> Any:
        return self.rows_VC

    def counts(self) -> Any:
        return self.jets.count if isinstance(self.jets, OneJet) else self.jets.count_N


def slots_of_jets(row_VC: Value, jets: ManyJets, filler: float) -> Value:
    """Return the particles in slots (N, P, C), with ``filler`` in slots without one."""
    graph, channels = row_VC.graph, row_VC.shape[1]
    assert channels is not None
    # The row after the last particle is replaced by the filler.
    total = reduce("ReduceSum", jets.count_N, 0, keepdim=True)
    real_VC = rows_between(row_VC, integers(graph, 0), total)
    filled_SC = cat([real_VC, constant(graph, torch.full((1, channels), filler))])
    first_N1 = unsqueeze(binary("Sub", jets.end_N, jets.count_N), 1)
    valid_NP = cast(jets.valid_NP, torch.int64)
    number_NP = node(graph, "CumSum", valid_NP, _scalar(row_VC, 1), shape=valid_NP.shape)
    row_NP = binary("Sub", binary("Add", number_NP, first_N1), integers(graph, 1))
    return gather(filled_SC, where(jets.valid_NP, row_NP, total))


def _pool_many(row_VC: Value, jets: ManyJets, kind: Literal["mean", "max"]) -> Value:
    # Where nothing is negative, zeros change neither the sum nor the largest.
    lowest = 0.0 if kind == "mean" or row_VC.nonnegative else float("-inf")
    slot_NPC = slots_of_jets(row_VC, jets, lowest)
    if kind == "max":
        return reduce("ReduceMax", slot_NPC, 1)
    divisor_N = node(row_VC.graph, "Max", jets.count_N, integers(row_VC.graph, 1), shape=jets.count_N.shape)
    return binary("Div", reduce("ReduceSum", slot_NPC, 1), unsqueeze(cast(divisor_N, row_VC.dtype), 1))


def _scalar(like: Value, number: int) -> Value:
    return constant(like.graph, number, torch.int64)
