"""Results of ``evaluate --ood``: how well exits detect out-of-distribution (OOD) jets."""

from phaze_ee.results.base import Record, Traced
from phaze_ee.results.policy import Fraction


class OODDetection(Record):
    """How well one score separates OOD jets from the project's jets, at one exit or by a policy.

    ``auroc`` is the area under the ROC curve: the probability that an OOD jet has a larger score than a jet of the
    project. ``auroc_error`` is DeLong's standard error. ``mean`` is the mean score of the project's jets; the
    histograms are of the score minus this mean (0 if it was already subtracted exit by exit). Bins have equal width
    between the 0.5 % and 99.5 % quantiles of both samples together. Jets outside count in the first or last bin.
    """

    auroc: float
    auroc_error: float
    mean: float
    edges: list[float]
    counts: list[int]
    ood_counts: list[int]


class OODPolicy(Record):
    """Where jets leave by the project's exit policy, and the scores at the exit where each jet leaves.

    ``exits`` are the shares of the project's jets that leave at each exit, ``ood_exits`` those of the OOD jets, the
    full model last. ``scores`` has the scores that exist at all of these exits, minus their mean at the exit.
    """

    score: str
    exits: dict[str, Fraction]
    ood_exits: dict[str, Fraction]
    scores: dict[str, OODDetection]


class OODResults(Traced):
    """``ood_results.json``: ``exits[exit][score]``, exits in the order of the network, the full model last.

    ``policy`` is None if the project has no policy. ``data_hash`` is that of the jets of the project.
    """

    project: str
    model: str
    jets: int
    files: list[str]
    ood_jets: int
    ood_files: list[str]
    exits: dict[str, dict[str, OODDetection]]
    policy: OODPolicy | None
    notes: list[str]
