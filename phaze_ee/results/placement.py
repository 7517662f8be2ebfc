"""Typed results of mode place: where exits pay."""

from typing import Literal

from phaze_ee.results.base import Record, ResultsFile

Stage = int | Literal["input"]


class CandidateExit(Record):
    """An exit at one stage: its accuracy alone, and its share of the full model's MACs, without other heads."""

    stage: Stage
    accuracy: float
    macs_share: float


class PlacementPoint(Record):
    """Exits at some stages with thresholds, on the judging jets.

    ``mean_macs`` are multiply-accumulates per jet up to its exit, the heads of these exits alone included;
    ``macs_share`` is their ratio to those of the full model without exits. ``exit_fractions`` of the jets leave at each
    exit, the full model last.
    """

    exit_stages: list[Stage]
    thresholds: list[float]
    mean_macs: float
    macs_share: float
    accuracy: float
    accuracy_error: float
    exit_fractions: list[float]


class PlacementResults(ResultsFile):
    """``placement_results.json``.

    ``curves`` has a list for each set of stages with exits: points that no other of that set beats, by rising cost,
    some of them where there are many. ``pareto`` are the points that no other of any set beats. ``recommended`` is the
    cheapest point whose accuracy is at most ``epsilon`` below ``full_model``'s.
    """

    project: str
    model: str
    model_hash: str | None
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
