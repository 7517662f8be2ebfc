"""What all exits of a tagger answer for a sample of jets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from phaze_ee.errors import RunError
from phaze_ee.exits.costs import ExitCosts
from phaze_ee.exits.policies import ExitPolicy, exit_index, temper
from phaze_ee.exits.scores import ExitScore
from phaze_ee.names import exit_names
from phaze_ee.shapes import Bool, Float, Int

ExitIndex = Int[np.ndarray, " N"]


@final
@dataclass(frozen=True)
class Predictions:
    """What all exits predict for R targets of N jets, and the targets themselves, in their own units.

    Attributes:
        names: the targets.
        value_ENR: what each exit predicts, the full model last.
        target_NR: the true values.
    """

    names: tuple[str, ...]
    value_ENR: Float[np.ndarray, "E N R"]
    target_NR: Float[np.ndarray, "N R"]

    def select(self, index_N: Int[np.ndarray, " N"]) -> Self:
        """Return the predictions for the jets with these indices."""
        return replace(self, value_ENR=np.take(self.value_ENR, index_N, axis=1), target_NR=self.target_NR[index_N])

    def with_exits(self, kept: Sequence[int]) -> Self:
        """Return the predictions of these exits alone."""
        return replace(self, value_ENR=self.value_ENR[kept])


@final
@dataclass(frozen=True)
class Answers:
    """The logits of all exits for N jets, the full model last, and what is known about these jets.

    Attributes:
        logits_ENK: float32 as the engine gives them, or float64.
        label_N: true classes; -1 where unknown.
        particle_count_N: real particles that the network saw, at most P per jet; with several collections, of all.
        class_names: the K classes, in the order of the logits.
        costs: what it costs to let the jets leave at each exit.
        observers: other columns of the data configuration, by name, with one value per jet.
        inputs: observables of the inputs (:func:`phaze_ee.exits.observables.input_observables`).
        predictions: of the targets of a regression; None: there are none, or the targets were not read.
    """

    logits_ENK: Float[np.ndarray, "E N K"]
    label_N: Int[np.ndarray, " N"]
    particle_count_N: Int[np.ndarray, " N"]
    class_names: tuple[str, ...]
    costs: ExitCosts
    observers: Mapping[str, npt.NDArray[np.generic]] = field(default_factory=dict)
    inputs: Mapping[str, npt.NDArray[np.generic]] = field(default_factory=dict)
    predictions: Predictions | None = None

    def __len__(self) -> int:
        return len(self.label_N)

    @property
    def exit_count(self) -> int:
        """The number of exits without the full model, which is also the index of the full model."""
        return len(self.logits_ENK) - 1

    @property
    def exit_names(self) -> tuple[str, ...]:
        """The names of the exits, the full model last."""
        return exit_names(len(self.logits_ENK))

    @property
    def tensor_ENK(self) -> Float[Tensor, "E N K"]:
        """The logits as a tensor, which shares their memory."""
        return torch.from_numpy(self.logits_ENK)

    @property
    def labelled(self) -> bool:
        """Whether the true class of every jet is known."""
        return bool((self.label_N >= 0).all())

    @property
    def class_EN(self) -> Int[np.ndarray, "E N"]:
        """The class that each exit assigns: that of the largest logit, the first of equal ones."""
        class_EN: npt.NDArray[np.int64] = self.logits_ENK.argmax(axis=2)
        return class_EN

    @property
    def correct_EN(self) -> Bool[np.ndarray, "E N"]:
        """Whether each exit assigns the true class."""
        correct_EN: npt.NDArray[np.bool_] = self.class_EN == self.label_N
        return correct_EN

    @property
    def jets_per_class(self) -> dict[str, int]:
        """The number of jets of each class; all true classes must be known."""
        counts = np.bincount(self.label_N, minlength=len(self.class_names))
        return {name: int(count) for name, count in zip(self.class_names, counts, strict=True)}

    def of_class(self, name: str) -> Bool[np.ndarray, " N"]:
        """Return which jets have this true class."""
        of_class_N: npt.NDArray[np.bool_] = self.label_N == self.class_names.index(name)
        return of_class_N

    def select(self, index_N: Int[np.ndarray, " N"]) -> Self:
        """Return the answers for the jets with these indices."""
        return replace(
            self,
            logits_ENK=np.take(self.logits_ENK, index_N, axis=1),
            label_N=self.label_N[index_N],
            particle_count_N=self.particle_count_N[index_N],
            costs=self.costs.select(index_N),
            observers={name: column[index_N] for name, column in self.observers.items()},
            inputs={name: column[index_N] for name, column in self.inputs.items()},
            predictions=None if self.predictions is None else self.predictions.select(index_N),
        )

    def with_exits(self, exits: Sequence[int]) -> Self:
        """Return the answers of a tagger that has only these exits, which must be independent of each other."""
        kept = [*exits, self.exit_count]
        predictions = None if self.predictions is None else self.predictions.with_exits(kept)
        return replace(
            self, logits_ENK=self.logits_ENK[kept], costs=self.costs.with_exits(exits), predictions=predictions
        )

    def double(self) -> Self:
        """Return the answers with logits in float64."""
        return replace(self, logits_ENK=self.logits_ENK.astype(np.float64))

    def tempered(self, temperatures: Sequence[float] | None) -> Self:
        """Return the answers with the logits of each exit divided by its temperature; None: as they are."""
        return replace(self, logits_ENK=temper(self.tensor_ENK, temperatures).numpy())

    def scores(self, score: ExitScore) -> Float[np.ndarray, "E-1 N"]:
        """Return the score at every exit but the full model."""
        rows = [score(self.tensor_ENK[: index + 1]).numpy() for index in range(self.exit_count)]
        return np.stack(rows) if rows else np.empty((0, len(self)))

    def exit_index(self, policy: ExitPolicy) -> ExitIndex:
        """Return the exit where each jet leaves by a policy, whose temperatures the logits must already have."""
        index_N: npt.NDArray[np.int64] = exit_index(policy, self.tensor_ENK).numpy()
        return index_N

    def all_at(self, exit_: int) -> ExitIndex:
        """Return the exit index of jets that all leave at one exit."""
        return np.full(len(self), exit_)

    def mixture(self, exit_index_N: ExitIndex) -> Float[np.ndarray, "N K"]:
        """Return the logits of the exit where each jet leaves, in float64."""
        logits_NK: npt.NDArray[np.float64] = at_exit(self.logits_ENK, exit_index_N).astype(np.float64)
        return logits_NK


def at_exit(value_EN: Float[np.ndarray, "E N ..."], exit_index_N: ExitIndex) -> npt.NDArray[Any]:
    """Return for each jet the value at the exit where it leaves."""
    value_N: npt.NDArray[Any] = value_EN[exit_index_N, np.arange(len(exit_index_N))]
    return value_N


def check_finite(logits_ENK: Float[np.ndarray, "*E N K"]) -> None:
    """Check the answers of one exit, or of several.

    Raises:
        RunError: a logit is NaN or infinite.
    """
    finite_EN = np.isfinite(logits_ENK).all(axis=-1)
    finite_N = finite_EN.reshape(-1, finite_EN.shape[-1]).all(axis=0)
    if not finite_N.all():
        raise RunError(
            f"the network's answer is not finite for {(~finite_N).sum()} of {len(finite_N)} jets; train it again, or "
            "check these files"
        )
