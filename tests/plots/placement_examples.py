"""Made-up results of mode place, for tables and figures."""

from phaze_ee.names import ExitStage
from phaze_ee.results.placement import CandidateExit, PlacementPoint, PlacementResults


def point(stages: list[ExitStage], share: float, accuracy: float) -> PlacementPoint:
    exits = len(stages)
    return PlacementPoint(
        exit_stages=stages,
        thresholds=[0.5] * exits,
        mean_macs=share * 1e8,
        macs_share=share,
        accuracy=accuracy,
        accuracy_error=0.004,
        exit_fractions=[1 / (exits + 1)] * (exits + 1),
    )


def placement_results(curve_points: int = 3) -> PlacementResults:
    """Three stages, all seven sets of them; sets with stage 1 do best, the full model best of all."""
    sets: list[list[ExitStage]] = [["input"], [0], [1], ["input", 0], ["input", 1], [0, 1], ["input", 0, 1]]
    steps = range(curve_points)
    curves = [
        [point(stages, 0.1 + 0.8 * step / curve_points, 0.5 + 0.05 * (1 in stages) + 0.02 * step) for step in steps]
        for stages in sets
    ]
    full = point([], 1.0, 0.9)
    return PlacementResults(
        project="JetClass/first",
        model="best_model.pt (epoch 3)",
        model_hash=None,
        score="confidence",
        exit_head="deep_sets",
        epsilon=0.3,
        shaping_jets=400,
        judging_jets=600,
        candidates=[CandidateExit(stage=stage, accuracy=0.5, macs_share=0.2) for stage in ("input", 0, 1)],
        full_model=full,
        curves=curves,
        pareto=[*curves[2], full],
        recommended=curves[5][-1],
        notes=[],
    )
