"""Typed results of a search for jets of another kind than the project's own (out of distribution, OOD)."""

from phaze_ee.results.base import Record, ResultsFile
from phaze_ee.results.policy import Fraction


class OODDetection(Record):
    """How well one score tells OOD jets from the project's own, with all answers taken at one exit, or by a policy.

    ``auroc`` is the area under the ROC curve: the probability that an OOD jet has a larger score than one of the
    project's; ``auroc_error`` is DeLong's standard error. ``mean`` is the mean of the score over the project's jets,
    which has been subtracted in the histograms (0 where it had been subtracted exit by exit before). Bins are of equal
    width between the 0.5 % and 99.5 % quantiles of both samples together; jets beyond them count in the first and last
    bin.
    """

    auroc: float
    auroc_error: float
    mean: float
    edges: list[float]
    counts: list[int]
    ood_counts: list[int]


class OODPolicy(Record):
    """Where jets leave by the project's exit policy, and the scores of each jet at the exit where it leaves.

    ``exits`` are the shares of the project's jets that leave at each exit, ``ood_exits`` those of the OOD jets, the
    full model last. ``scores`` holds what is known at each of these exits, less its mean there.
    """

    score: str
    exits: dict[str, Fraction]
    ood_exits: dict[str, Fraction]
    scores: dict[str, OODDetection]


class OODResults(ResultsFile):
    """``ood_results.json``: ``exits[exit][score]``, exits in the order of the network, the full model last.

    ``model_hash`` as in :class:`phaze_ee.results.evaluation.EvaluationResults`. ``policy`` is None
    where the project has none.
    """

    project: str
    model: str
    model_hash: str | None
    jets: int
    files: list[str]
    ood_jets: int
    ood_files: list[str]
    exits: dict[str, dict[str, OODDetection]]
    policy: OODPolicy | None
    notes: list[str]
