"""Made-up results that look like real ones, for tests of figures and of the modes that draw them."""

from collections.abc import Sequence

import numpy as np

from phaze_ee.results.benchmark import BenchmarkResults, ExitBenchmark
from phaze_ee.results.evaluation import ConfidenceBin, EvaluationResults, ExitEvaluation, RocCurve, TargetEvaluation
from phaze_ee.results.project import ProjectResults
from phaze_ee.results.training import EpochRecord, TrainingHistory

JETCLASS = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")
EXITS = ("exit_0", "exit_1", "exit_2", "full_model")
# Exact MACs of ParticleNet at 128 particles and 19 inputs; the rest is of the right size only.
MACS = (21_950_000, 123_690_000, 530_570_000, 533_720_000)
PARAMETERS = (14_500, 70_900, 303_000, 366_000)


def evaluation_results(
    accuracies: Sequence[float] = (0.55, 0.68, 0.77, 0.78),
    classes: Sequence[str] = JETCLASS,
    jets: int = 20_000,
    auc: float | None = 0.9,
    project: str = "demo",
) -> EvaluationResults:
    """Return results with one exit an accuracy, and a ROC curve of each class against the first."""
    labels = [f"label_{name}" for name in classes]
    per_class = jets // len(classes)
    return EvaluationResults(
        project=project,
        model="best_model.pt",
        classes=labels,
        jets=jets,
        jets_per_class=dict.fromkeys(labels, per_class),
        files=["test.root"],
        exits={
            name: _exit_evaluation(accuracy, labels, per_class, auc)
            for name, accuracy in zip(EXITS[-len(accuracies) :], accuracies, strict=True)
        },
    )


def _exit_evaluation(accuracy: float, labels: list[str], per_class: int, auc: float | None) -> ExitEvaluation:
    wrong = (1 - accuracy) / (len(labels) - 1)
    shares = np.full((len(labels), len(labels)), wrong) + np.eye(len(labels)) * (accuracy - wrong)
    return ExitEvaluation(
        accuracy=accuracy,
        accuracy_error=float(np.sqrt(accuracy * (1 - accuracy) / (per_class * len(labels)))),
        roc_auc=None if auc is None else auc + 0.1 * accuracy,
        loss=1 - accuracy,
        expected_calibration_error=0.02,
        confidence_bins=[
            ConfidenceBin(jets=jets, confidence=confidence, accuracy=confidence - 0.1)
            for jets, confidence in ((5, 0.4), (600, 0.6), (900, 0.9))
        ],
        confusion_matrix=np.random.default_rng(1).poisson(shares * per_class).tolist(),
        rejections=[],
        roc_curves=[roc_curve(signal, labels[0], 1 + 4 * accuracy, per_class) for signal in labels[1:]],
    )


def with_targets(evaluation: EvaluationResults, bias: float = 0.5) -> EvaluationResults:
    """Return results with a target of a regression, some of whose values are not positive."""
    target = TargetEvaluation(
        jets=evaluation.jets,
        target_spread=42.56,
        bias=bias,
        bias_error=0.25,
        resolution=20.0,
        resolution_error=0.5,
        response=None,
        response_error=None,
        response_resolution=None,
        response_resolution_error=None,
    )
    exits = {
        name: exit_.model_copy(update={"targets": {"jetMass": target}}) for name, exit_ in evaluation.exits.items()
    }
    return evaluation.model_copy(update={"exits": exits})


def roc_curve(signal: str, background: str, power: float, background_jets: int) -> RocCurve:
    """Return a curve with background efficiency = (signal efficiency)^power, in whole background jets."""
    efficiency = np.linspace(0, 1, 101)
    passing = np.round(efficiency**power * background_jets) / background_jets
    return RocCurve(
        signal=signal,
        background=background,
        signal_efficiency=efficiency.tolist(),
        background_efficiency=passing.tolist(),
    )


def benchmark_results(
    exits: Sequence[str] = EXITS, particles: int = 128, scale: float = 1.0, project: str = "demo"
) -> BenchmarkResults:
    """Return the costs of ParticleNet's exits, all multiplied by ``scale``."""
    return BenchmarkResults(
        project=project,
        model="best_model.pt",
        particles=particles,
        input_channels=19,
        unit="MACs",
        exits={
            name: ExitBenchmark(
                flops=int(1.02 * scale * macs),
                flops_str="",
                params=int(scale * params),
                params_str="",
                macs=int(scale * macs),
                share_of_full=macs / MACS[-1],
                accuracy=None,
                roc_auc=None,
            )
            for name, macs, params in zip(exits, MACS[-len(exits) :], PARAMETERS[-len(exits) :], strict=True)
        },
    )


def project_results(
    name: str = "demo", accuracies: Sequence[float] = (0.55, 0.68, 0.77, 0.78), scale: float = 1.0
) -> ProjectResults:
    """Return one project's results."""
    evaluation = evaluation_results(accuracies, project=name)
    return ProjectResults(name, evaluation, benchmark_results(tuple(evaluation.exits), scale=scale, project=name))


def training_history(strategy: str = "target_flow", epochs: int = 12, val_interval: int = 1) -> TrainingHistory:
    """Return curves that fall and rise as in a healthy training."""
    zero_epochs = epochs // 4
    records = []
    for epoch in range(epochs):
        ramp = max(0.0, (epoch - zero_epochs + 1) / (epochs - zero_epochs))
        progress = 1 - np.exp(-(epoch + 1) / 4)
        accuracy = [float(0.1 + top * progress) for top in (0.4, 0.55, 0.66, 0.68)]
        loss = [float(2.3 - 1.2 * (value - 0.1) / 0.5) for value in accuracy]
        validated = (epoch + 1) % val_interval == 0
        records.append(
            EpochRecord(
                epoch=epoch,
                learning_rate=0.01,
                beta=[0.3 * ramp, 0.5 * ramp, 1.0 * ramp],
                train_total_loss=sum(loss),
                train_loss=loss,
                train_accuracy=accuracy,
                val_loss=[value + 0.05 for value in loss] if validated else None,
                val_accuracy=[value - 0.02 for value in accuracy] if validated else None,
                jets_per_second=500.0,
            )
        )
    return TrainingHistory(project="demo", exit_names=list(EXITS), exit_loss_strategy=strategy, epochs=records)
