"""Made-up results of a dynamic tagger, for tests of figures, tables and of the modes that show them."""

from math import inf

import numpy as np

from phaze_ee.plots.dynamic_tradeoff import DynamicProject
from phaze_ee.results.benchmark import BenchmarkResults, ExitLatency, LatencyReport, PolicyLatency
from phaze_ee.results.evaluation import Rejection
from phaze_ee.results.policy import (
    Bounds,
    CurvePoint,
    DynamicResults,
    ExitBehaviour,
    ExitRates,
    Fraction,
    MassAudit,
    MassShape,
    OperatingPoint,
    PolicyEvaluation,
    RealisedRisk,
    ScoreCurve,
    StepEvaluation,
)
from tests.plots.examples import EXITS, MACS, benchmark_results

CLASSES = ("label_QCD", "label_Hbb", "label_Hcc")
THRESHOLDS = [0.5, 0.6, 0.7]
SHARE = Fraction(value=0.05, error=0.002, jets=10_000)


def point(share: float, accuracy: float) -> OperatingPoint:
    """Return an operating point whose Hcc rejection is a limit where the accuracy is at least 0.75."""
    limited = accuracy >= 0.75
    return OperatingPoint(
        mean_macs=share * MACS[-1],
        macs_share=share,
        accuracy=accuracy,
        accuracy_error=0.004,
        rejections=[rejection("label_Hbb", 1000 * accuracy), rejection("label_Hcc", None if limited else 80.0)],
        exit_fractions=[0.4, 0.3, 0.2, 0.1],
    )


def rejection(signal: str, value: float | None) -> Rejection:
    return Rejection(
        signal=signal,
        background="label_QCD",
        signal_efficiency=0.5,
        value=value,
        error=None if value is None else value / 10,
        lower_limit=500.0 if value is None else None,
    )


def curve_point(share: float, accuracy: float, thresholds: list[float]) -> CurvePoint:
    return CurvePoint(**dict(point(share, accuracy)), thresholds=thresholds)


def dynamic_results(classes: tuple[str, ...] = CLASSES, mass: bool = True) -> DynamicResults:
    """Return a policy, two curves, bounds and audits, of the model of :func:`tests.plots.examples.project_results`."""
    accuracies = (0.55, 0.68, 0.77, 0.78)
    exits = {
        name: ExitBehaviour(
            all_leave=point(macs / MACS[-1], accuracy),
            expected_calibration_error=0.02,
            leaving_jets=0 if name == "exit_2" else 100,
            leaving_calibration_error=None if name == "exit_2" else 0.03,
            failure_auroc=0.8,
            change_of_mind=None if name == "full_model" else SHARE,
        )
        for name, macs, accuracy in zip(EXITS, MACS, accuracies, strict=True)
    }
    return DynamicResults(
        project="W/mine",
        model="best_model.pt",
        model_hash=None,
        classes=list(classes),
        jets=10_000,
        files=["test.root"],
        policy=PolicyEvaluation(
            **dict(curve_point(0.4, 0.77, THRESHOLDS)),
            score="confidence",
            target="accuracy_drop: epsilon 0.02",
            expected_calibration_error=0.015,
            accuracy_drop=0.01,
            accuracy_drop_error=0.002,
            disagreement=SHARE,
            risks=[RealisedRisk(name="jets made wrong", epsilon=0.02, rate=SHARE)],
            exits_per_class={name: [40, 30, 0, 30] for name in classes[:-1]} | {classes[-1]: [0, 0, 0, 0]},
        ),
        exits=exits,
        curves=[
            ScoreCurve(
                score=score,
                points=[curve_point(0.1 * n, accuracy + 0.02 * n, [n / 10] * 3) for n in (1, 3, 9)],
                area=0.7,
            )
            for score, accuracy in (("confidence", 0.6), ("margin", 0.58))
        ],
        bounds=Bounds(oracle=point(0.2, 0.86), label_free_oracle=point(0.25, 0.78), overthinking=SHARE),
        exit_rates=[
            exit_rates(observable, sample) for observable in ("jet_pt", "jet_sdmass") for sample in ("all", "label_QCD")
        ],
        mass=mass_audit() if mass else None,
        notes=["a note"],
    )


def example_sequence(dynamic: DynamicResults) -> list[StepEvaluation]:
    """Return a sequence with the policy of these results: the full model, two that passed, two that did not."""
    return [
        StepEvaluation(
            **{**dict(curve_point(share, accuracy, thresholds)), "exit_fractions": [1 - share, 0, 0, share]},
            passed=share >= 0.4,
            is_policy=thresholds == dynamic.policy.thresholds,
            risks=[RealisedRisk(name="signal lost", epsilon=0.02, rate=Fraction(value=lost, error=0.001, jets=5000))],
            upper_limits={"signal lost": lost + 0.005},
            prior_share=share / 10,
        )
        for share, accuracy, lost, thresholds in (
            (1.0, 0.78, 0.0, [inf] * 3),
            (0.6, 0.775, 0.01, [0.8] * 3),
            (dynamic.policy.macs_share, 0.77, 0.014, dynamic.policy.thresholds),
            (0.3, 0.76, 0.021, [0.4] * 3),
            (0.2, 0.73, 0.05, [0.2] * 3),
        )
    ]


def exit_rates(observable: str, sample: str) -> ExitRates:
    return ExitRates(
        observable=observable,
        sample=sample,
        edges=[500, 600, 700, 1000],
        centres=[550, 650, 800],
        jets=[100, 100, 100],
        rates=[[0.4, 0.3, 0.2], [0.3, 0.3, 0.3], [0.2, 0.2, 0.2], [0.1, 0.2, 0.3]],
        errors=[[0.05] * 3] * 4,
        association=0.12,
        p_value=0.03,
    )


def mass_audit(passing: int = 400) -> MassAudit:
    counts = np.random.default_rng(0).multinomial(passing, [0.05] * 20).tolist()
    none = MassShape(jets=0, counts=[0] * 20)
    some = MassShape(jets=passing, counts=counts, divergence=0.02, floor=0.015, floor_95=0.03, p_value=0.2)
    return MassAudit(
        signal="label_Hbb",
        background="label_QCD",
        signal_efficiency=0.5,
        observable="jet_sdmass",
        edges=np.linspace(0, 200, 21).tolist(),
        uncut_counts=[500] * 20,
        full_model=some if passing else none,
        mixture=some if passing else none,
    )


def timed_benchmark(with_policies: bool = True) -> BenchmarkResults:
    """Return costs with times of the exits and, on wish, of the policy and of the first points of the curves."""
    times = {"p50_ms": 0.5, "p95_ms": 0.6, "p99_ms": 0.7, "jets_per_second": 2000.0, "batches": 5, "mean_macs": 2e8}
    entries = [
        ExitLatency(name=name, batch_size=size, **{**times, "p50_ms": index + 1 / size})
        for size in (1, 256)
        for index, name in enumerate(EXITS)
    ]
    fractions = [0.4, 0.3, 0.2, 0.1]
    policy = PolicyLatency(
        name="policy", batch_size=256, score="confidence", thresholds=THRESHOLDS, exit_fractions=fractions,
        **{**times, "jets_per_second": 5000.0},
    )  # fmt: skip
    curves = [
        PolicyLatency(name=score, batch_size=256, score=score, thresholds=[0.1] * 3, exit_fractions=fractions, **times)
        for score in ("confidence", "margin")
    ]
    latency = LatencyReport(
        threads=1,
        device="cpu",
        machine="Epyc 1",
        dtype="float32",
        mean_multiplicity=40,
        entries=entries,
        chosen=[policy] if with_policies else [],
        curves=curves if with_policies else [],
    )
    return benchmark_results().model_copy(update={"latency": latency})


def dynamic_project(with_policies: bool = True) -> DynamicProject:
    return DynamicProject(dynamic_results(), timed_benchmark(with_policies))
