"""What calibration knows about its jets."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, final

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from phaze_ee.exits.policies import ExitPolicy, exit_index
from phaze_ee.exits.scores import ExitScore

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@final
@dataclass(frozen=True)
class CalibrationJets:
    """Answers of all exits for N jets, the full model last, and what leaving at each exit costs.

    Attributes:
        logits_ENK: in float64.
        label_N: true classes; -1 where unknown.
        cost_EN: multiply-accumulates up to each exit, the heads of all exits on the way included, in units of the mean
            of the full model without exits over all calibration jets.
        head_EN: what the head of each exit adds to this; None: nothing.
        weight_N: how much a jet counts in mean costs; 1 on average.
        class_names: the K classes.
        macs: the unit of the costs, in multiply-accumulates.
    """

    logits_ENK: Float[Tensor, "E N K"]
    label_N: Int[npt.NDArray[np.int64], " N"]
    cost_EN: Float[FloatArray, "E N"]
    weight_N: Float[FloatArray, " N"]
    class_names: tuple[str, ...]
    macs: float = 1.0
    head_EN: Float[FloatArray, "E-1 N"] | None = None

    def __len__(self) -> int:
        return len(self.label_N)

    @property
    def exit_count(self) -> int:
        """The number of exits, the full model not counted."""
        return len(self.logits_ENK) - 1

    @property
    def answer_EN(self) -> Int[npt.NDArray[np.int64], "E N"]:
        """The class that each exit says."""
        answer_EN: npt.NDArray[np.int64] = self.logits_ENK.argmax(dim=-1).numpy()
        return answer_EN

    @property
    def correct_EN(self) -> Bool[BoolArray, "E N"]:
        """Whether each exit says the true class."""
        correct_EN: BoolArray = self.answer_EN == self.label_N
        return correct_EN

    def select(self, index_N: npt.NDArray[Any]) -> Self:
        """Return the jets that an index or a mask names."""
        index = torch.from_numpy(index_N)
        return replace(
            self,
            logits_ENK=self.logits_ENK[:, index],
            label_N=self.label_N[index_N],
            cost_EN=self.cost_EN[:, index_N],
            weight_N=self.weight_N[index_N],
            head_EN=None if self.head_EN is None else self.head_EN[:, index_N],
        )

    def with_exits(self, exits: Sequence[int]) -> Self:
        """Return the jets as a tagger answers that has these exits alone, which must not build on each other."""
        cost_EN = self.cost_EN.copy()
        if self.head_EN is not None:
            for skipped in (exit_ for exit_ in range(self.exit_count) if exit_ not in exits):
                cost_EN[skipped:] -= self.head_EN[skipped]
        kept = [*exits, self.exit_count]
        head_EN = None if self.head_EN is None else self.head_EN[list(exits)]
        return replace(self, logits_ENK=self.logits_ENK[kept], cost_EN=cost_EN[kept], head_EN=head_EN)

    def scores(self, score: ExitScore) -> Float[FloatArray, "E-1 N"]:
        """Return a score at every exit."""
        rows = [score(self.logits_ENK[: index + 1]).numpy() for index in range(self.exit_count)]
        return np.stack(rows) if rows else np.empty((0, len(self)))

    def exit_index(self, policy: ExitPolicy) -> Int[npt.NDArray[np.int64], " N"]:
        """Return where each jet leaves."""
        index_N: npt.NDArray[np.int64] = exit_index(policy, self.logits_ENK).numpy()
        return index_N

    def at_exit(self, value_EN: npt.NDArray[Any], index_N: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Return, of values for each exit, those of the exits where the jets leave."""
        return value_EN[index_N, np.arange(len(self))]

    def spent(self, exits: Collection[int], index_N: npt.NDArray[np.int64]) -> Float[FloatArray, " N"]:
        """Return the costs of jets that leave at these exits, if only the heads of ``exits`` are evaluated."""
        spent_N: FloatArray = self.at_exit(self.cost_EN, index_N)
        if self.head_EN is None:
            return spent_N
        skipped = [exit_ for exit_ in range(self.exit_count) if exit_ not in exits]
        unused_EN = np.array([self.head_EN[exit_] * (index_N >= exit_) for exit_ in skipped])
        return spent_N - unused_EN.sum(axis=0) if skipped else spent_N

    @property
    def full_cost_N(self) -> Float[FloatArray, " N"]:
        """What the full model costs without exits."""
        return self.spent((), np.full(len(self), self.exit_count))

    def mean_cost(self, index_N: npt.NDArray[np.int64]) -> float:
        """Return the mean cost, weighted, if the jets leave at these exits."""
        return float((self.weight_N * self.at_exit(self.cost_EN, index_N)).mean())
