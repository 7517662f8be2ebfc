"""What it costs to let jets leave at an exit, and means over jets with the weights of a class prior."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self, final

import numpy as np
import numpy.typing as npt
import torch

from phaze_ee.errors import DataError, UsageError
from phaze_ee.models.links import ExitLink, IndependentLink
from phaze_ee.models.tagger import Tagger
from phaze_ee.shapes import Float, Int

FloatArray = npt.NDArray[np.float64]


@final
@dataclass(frozen=True)
class ExitCosts:
    """The multiply-accumulates (MACs) of N jets at E - 1 exits and, last, at the full model.

    Attributes:
        trunk_EN: MACs of the network up to each exit, without any exit head.
        head_EN: MACs of each exit head alone, with what the link adds there.
        link: how exits build on each other; decides which heads an answer needs.
        weight_N: weight of each jet in mean costs; 1 on average.
        unit: the MACs that count as a cost of 1.
    """

    trunk_EN: Float[np.ndarray, "E N"]
    head_EN: Float[np.ndarray, "E-1 N"]
    link: ExitLink
    weight_N: Float[np.ndarray, " N"]
    unit: float = 1.0

    @classmethod
    def of(cls, tagger: Tagger, particle_count_N: Int[np.ndarray, " N"] | Int[np.ndarray, "N G"]) -> Self:
        """Return the costs of jets with these numbers of particles, in MACs and with equal weights.

        Args:
            tagger: the form of the tagger that runs (:meth:`Tagger.fastest_form`).
            particle_count_N: real particles of each jet; with several collections, those of each.
        """
        counts = torch.from_numpy(particle_count_N)
        count_N = counts if counts.dim() == 1 else counts.sum(dim=1)
        heads = [tagger.head_macs(index, count_N).double().numpy() for index in range(len(tagger.exit_stages))]
        head_EN = np.stack(heads) if heads else np.empty((0, len(count_N)))
        trunk_EN = tagger.exit_macs(counts).double().numpy() - _heads_up_to(head_EN, range(len(heads)))
        return cls(trunk_EN, head_EN, tagger.link, np.ones(len(count_N)))

    def relative_to_full_model(self, weight_N: Float[np.ndarray, " N"]) -> Self:
        """Return the costs with these weights, in units of the weighted mean cost of the full model without exits."""
        return replace(self, weight_N=weight_N, unit=float((weight_N * self.full_N * self.unit).mean()))

    def select(self, index_N: Int[np.ndarray, " N"]) -> Self:
        """Return the costs of the jets with these indices, in the same unit."""
        return replace(
            self,
            trunk_EN=self.trunk_EN[:, index_N],
            head_EN=self.head_EN[:, index_N],
            weight_N=self.weight_N[index_N],
        )

    def with_exits(self, exits: Sequence[int]) -> Self:
        """Return the costs of a tagger that has only these exits, which must be independent of each other."""
        assert isinstance(self.link, IndependentLink)
        return replace(
            self,
            trunk_EN=self.trunk_EN[[*exits, len(self.head_EN)]],
            head_EN=self.head_EN[list(exits)],
            link=IndependentLink(len(exits), self.link.num_classes),
        )

    @cached_property
    def all_heads_EN(self) -> Float[np.ndarray, "E N"]:
        """The cost up to each exit if every head before it is evaluated."""
        return self.up_to(None)

    @cached_property
    def full_N(self) -> Float[np.ndarray, " N"]:
        """The cost of the full model without exits (with the heads that its link needs)."""
        full_N: FloatArray = self.up_to(())[-1]
        return full_N

    @property
    def mean_full(self) -> float:
        """The weighted mean cost of the full model without exits."""
        return float((self.weight_N * self.full_N).mean())

    def spent(self, exit_index_N: Int[np.ndarray, " N"], exits: Collection[int] | None) -> Float[np.ndarray, " N"]:
        """Return the cost of each jet.

        Args:
            exit_index_N: the exit where each jet leaves.
            exits: the exits that are evaluated; None: all. Heads that the link needs for them cost as well, as in
                :meth:`Tagger.exit_macs`.
        """
        cost_EN = self.all_heads_EN if exits is None else self.up_to(exits)
        spent_N: FloatArray = cost_EN[exit_index_N, np.arange(len(exit_index_N))]
        return spent_N

    def mean(self, exit_index_N: Int[np.ndarray, " N"], exits: Collection[int] | None = None) -> float:
        """Return the weighted mean of :meth:`spent`."""
        return float((self.weight_N * self.spent(exit_index_N, exits)).mean())

    def up_to(self, exits: Collection[int] | None) -> Float[np.ndarray, "E N"]:
        """Return the cost up to each exit if the heads of these exits are evaluated; None: of all."""
        cost_EN: FloatArray = (self.trunk_EN + _heads_up_to(self.head_EN, self.link.evaluated(exits))) / self.unit
        return cost_EN


def prior_weights(
    label_N: Int[np.ndarray, " N"], class_names: Sequence[str], class_prior: Mapping[str, float] | None
) -> Float[np.ndarray, " N"]:
    """Return one weight per jet, 1 on average, that gives the classes their shares in ``class_prior``.

    Args:
        label_N: true classes.
        class_names: the K classes.
        class_prior: share of each class, up to a common factor; a class that is not named has none. None: the shares
            that the jets have, so that every weight is 1.

    Raises:
        UsageError: the prior names a class that is not one of ``class_names``.
        DataError: a class with a share has no jets, or a jet has no true class.
    """
    if class_prior is None:
        return np.ones(len(label_N))
    unknown = [name for name in class_prior if name not in class_names]
    if unknown:
        raise UsageError(f"class_prior names {', '.join(unknown)}; the classes are {', '.join(class_names)}")
    if (label_N < 0).any():
        raise DataError("class_prior needs labelled files, and some of these jets have no class")
    count_K = np.bincount(label_N, minlength=len(class_names))
    share_K = np.array([class_prior.get(name, 0.0) for name in class_names])
    share_K = share_K / share_K.sum()
    absent = [name for name, share, count in zip(class_names, share_K, count_K, strict=True) if share and not count]
    if absent:
        raise DataError(f"class_prior gives {', '.join(absent)} a share, but these files hold no such jets")
    weight_N: FloatArray = (share_K / np.maximum(count_K, 1) * len(label_N))[label_N]
    return weight_N


def weighted_mean(
    value_N: Float[np.ndarray, " N"], weight_N: Float[np.ndarray, " N"], class_N: Int[np.ndarray, " N"] | None = None
) -> tuple[float, float]:
    """Return the mean Σ w v / Σ w, and its standard error √(Σ w² (v - mean)²) / Σ w.

    Args:
        value_N: v of each jet.
        weight_N: w of each jet.
        class_N: classes whose shares the weights fix, so that each scatters about its own mean (a stratified sample,
            Cochran, *Sampling Techniques*, eq. 5.6 and 5.7). A class of one jet has no scatter of its own, so it counts
            by its distance from the mean of all. None: the shares are those of the jets, by chance.
    """
    total = weight_N.sum()
    mean = float((weight_N * value_N).sum() / total)
    rest_N = value_N - mean if class_N is None else _within_classes(value_N, mean, class_N)
    return mean, float(np.sqrt((weight_N**2 * rest_N**2).sum()) / total)


def weighted_ratio(
    upper_N: Float[np.ndarray, " N"],
    lower_N: Float[np.ndarray, " N"],
    weight_N: Float[np.ndarray, " N"],
    class_N: Int[np.ndarray, " N"] | None = None,
) -> tuple[float, float]:
    """Return the ratio of two weighted means, and its standard error from the scatter of ``upper - ratio · lower``.

    Args:
        upper_N: above the line.
        lower_N: below the line.
        weight_N: of each jet.
        class_N: as in :func:`weighted_mean`.
    """
    lower = weighted_mean(lower_N, weight_N)[0]
    ratio = weighted_mean(upper_N, weight_N)[0] / lower
    return ratio, weighted_mean(upper_N - ratio * lower_N, weight_N, class_N)[1] / lower


def _within_classes(value_N: FloatArray, mean: float, class_N: Int[np.ndarray, " N"]) -> FloatArray:
    """Return the distances from the means of the classes, so large that their squares estimate the variances."""
    rest_N = np.empty_like(value_N)
    for number in np.unique(class_N):
        own_N = class_N == number
        jets = int(own_N.sum())
        about = mean if jets == 1 else value_N[own_N].mean()
        rest_N[own_N] = (value_N[own_N] - about) * np.sqrt(jets / max(1, jets - 1))
    return rest_N


def _heads_up_to(head_EN: Float[np.ndarray, "E-1 N"], evaluated: Collection[int]) -> Float[np.ndarray, "E N"]:
    """Return what the evaluated heads cost together up to each exit and, last, up to the full model."""
    exit_count = len(head_EN)
    counts_E = np.array([float(index in evaluated) for index in range(exit_count)])
    sums_EN = np.cumsum(counts_E[:, None] * head_EN, axis=0)
    return np.concatenate([sums_EN, sums_EN[-1:] if exit_count else np.zeros((1, head_EN.shape[1]))])
