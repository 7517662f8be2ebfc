"""Results of mode place: after which stages exits pay off."""

from phaze_ee.names import ExitStage
from phaze_ee.results.base import Record, Traced


class CandidateExit(Record):
    """A single exit after one stage: its accuracy, and its cost as a share of the full model's MACs."""

    stage: ExitStage
    accuracy: float
    macs_share: float


class PlacementPoint(Record):
    """A set of exits with thresholds, evaluated on the judging jets.

    ``mean_macs`` are multiply-accumulates per jet up to its exit, with the heads of this set. ``macs_share`` is their
    ratio to the full model without exits. ``exit_fractions`` are the shares of the jets that leave at each exit, the
    full model last. ``difference`` is the accuracy minus that of the full model, with the paired standard error
    ``difference_error`` and the ``p_value`` of McNemar's test (:class:`phaze_ee.paired.PairedCounts`), for the
    placement alone: the search for the best of many is not accounted for. They are None in older files.
    """

    exit_stages: list[ExitStage]
    thresholds: list[float]
    mean_macs: float
    macs_share: float
    accuracy: float
    accuracy_error: float
    exit_fractions: list[float]
    difference: float | None = None
    difference_error: float | None = None
    p_value: float | None = None


class PlacementResults(Traced):
    """``placement_results.json``.

    ``curves`` has a list for each set of exits: its Pareto-optimal points by rising cost, some of them if many.
    ``pareto`` are the Pareto-optimal points of all sets. ``recommended`` is the cheapest point whose accuracy is at
    most ``epsilon`` below that of ``full_model``.
    """

    project: str
    model: str
    score: str
    exit_head: str
    epsilon: float
    shaping_jets: int
    judging_jets: int
    candidates: list[CandidateExit]
    full_model: PlacementPoint
    curves: list[list[PlacementPoint]]
    pareto: list[PlacementPoint]
    recommended: PlacementPoint
    notes: list[str]
