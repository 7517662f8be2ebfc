"""Mode benchmark: what it costs to leave at each exit."""

from collections.abc import Sequence

import numpy as np
import torch

from phaze_ee.benchmark.cost import UNIT, ExitCost, exit_costs
from phaze_ee.benchmark.latency import measure_latency, timed_jets
from phaze_ee.data.schema import DataSchema
from phaze_ee.errors import DataError, UsageError
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.policy_file import ExitPolicyFile
from phaze_ee.models.tagger import Tagger
from phaze_ee.modes.console import say, show, show_notes
from phaze_ee.modes.session import Session
from phaze_ee.names import exit_title
from phaze_ee.results.benchmark import BenchmarkResults, ExitBenchmark, LatencyReport
from phaze_ee.results.evaluation import EvaluationResults, ExitEvaluation
from phaze_ee.tables.benchmark import benchmark_table, curve_latency_table, head_table, latency_table

_NEXT_TO_NOTHING = 0.01
_TIMED_JETS = 512
_SECONDS = 0.25  # for each exit, policy and batch size
_CURVE_POINTS = 4  # timed of each cost-accuracy curve


def run(session: Session) -> None:
    """Count the cost of each exit, time it on some jets if there are any, and write benchmark_results.json."""
    tagger, schema, source, model_hash = _network(session)
    lengths = [own.length for own in schema.collections]
    costs = exit_costs(tagger, particles=lengths)
    latency, latency_notes = _latency(session, tagger, schema, model_hash)
    evaluations, notes = _evaluations(session, [cost.name for cost in costs], model_hash)
    results = BenchmarkResults(
        exits={cost.name: _exit_benchmark(cost, costs[-1], evaluations.get(cost.name)) for cost in costs},
        project=str(session.project),
        model=source,
        model_hash=model_hash,
        particles=sum(lengths),
        input_channels=tagger.backbone.input_channels,
        unit=UNIT,
        latency=latency,
        notes=[*notes, *latency_notes, *cost_notes(costs)],
    )
    results.write(session.project.benchmark_results)
    say(f"Model: {source}")
    show(benchmark_table(results))
    if len(results.exits) > 1:
        show(head_table(results))
    if results.latency is not None:
        show(latency_table(results.latency))
        if results.latency.curves:
            show(curve_latency_table(results.latency))
    show_notes(results.notes)
    say(f"Written: {session.project.benchmark_results}")


def _network(session: Session) -> tuple[Tagger, DataSchema, str, str | None]:
    """Return the network, its data configuration, its origin and the hash of its weights; costs need no weights."""
    if session.has_model:
        model = session.model
        return model.tagger, model.schema, model.source, model.hash
    return session.build(session.schema).eval(), session.schema, f"{session.project.config}, not trained yet", None


def _latency(
    session: Session, tagger: Tagger, schema: DataSchema, model_hash: str | None
) -> tuple[LatencyReport | None, list[str]]:
    """Return the times of the form that the engine runs, and notes; without jets no times, and the reason."""
    try:
        inputs = timed_jets(schema, session.files(session.judged_files), _TIMED_JETS)
    except (UsageError, DataError) as error:
        return None, [f"no times were measured: {error}"]
    device = session.device
    policy_file = session.policy_of(model_hash)
    report = measure_latency(
        tagger.to(device).fastest_form(),
        inputs.to(device).ragged(),
        policy=None if policy_file is None else policy_file.policy(),
        curves=[] if policy_file is None else _some_points(policy_file),
        threads=torch.get_num_threads(),
        seconds=_SECONDS,
    )
    spent = (
        "Spent MACs are those of the form that runs, with each jet's own number of particles. Times are those of the "
        "engine when every jet leaves at that exit, or where the policy says. The full model is timed without the exit "
        "heads, unless its answer needs them (exit_link = 'boosted')."
    )
    return report, [spent]


def _some_points(policy_file: ExitPolicyFile) -> list[ThresholdPolicy]:
    """Return a few policies of each cost-accuracy curve, evenly spaced from the cheapest to the most expensive."""
    return [
        ThresholdPolicy(curve.score, curve.thresholds[place], policy_file.temperatures)
        for curve in policy_file.curves
        for place in np.unique(np.linspace(0, len(curve.thresholds) - 1, _CURVE_POINTS).round().astype(int))
    ]


def _evaluations(
    session: Session, exit_names: Sequence[str], model_hash: str | None
) -> tuple[dict[str, ExitEvaluation], list[str]]:
    path = session.project.evaluation_results
    if not path.is_file():
        return {}, ["no accuracy yet: run mode 'evaluate', then this mode again"]
    evaluation = EvaluationResults.read(path, made_by="evaluate")
    if evaluation.model_hash != model_hash or list(evaluation.exits) != list(exit_names):
        return {}, [f"{path} was made with another model and is not used: run mode 'evaluate', then this mode again"]
    return evaluation.exits, []


def _exit_benchmark(cost: ExitCost, full: ExitCost, evaluation: ExitEvaluation | None) -> ExitBenchmark:
    return ExitBenchmark(
        flops=cost.weaver_macs,
        flops_str=f"{cost.weaver_macs / 1e6:.2f} MMac",
        params=cost.parameters,
        params_str=f"{cost.parameters / 1e6:.2f}M",
        macs=cost.macs,
        head_macs=cost.head_macs,
        share_of_full=cost.macs / full.macs,
        accuracy=None if evaluation is None else evaluation.accuracy,
        roc_auc=None if evaluation is None else evaluation.roc_auc,
    )


def cost_notes(costs: Sequence[ExitCost]) -> list[str]:
    """Return what a reader needs to know about the figures, the full model's being the last."""
    full = costs[-1]
    excess = ", ".join(f"{exit_title(cost.name)} {cost.weaver_macs / cost.macs - 1:+.1%}" for cost in costs)
    notes = [
        "MACs are multiply-accumulates (two floating-point operations each) of all matrix products for one padded jet, "
        "including neighbour search and attention. They are cumulative and include the heads of earlier exits.",
        f"weaver's counter ('flops') differs from this by: {excess}. It adds BatchNorm, activations and biases, and "
        "omits products outside layers: the neighbour search, and the attention of a transformer with its projection.",
    ]
    for cost in costs[:-1]:
        saved = 1 - cost.macs / full.macs
        if saved < _NEXT_TO_NOTHING:
            notes.append(
                f"{exit_title(cost.name)} saves {saved:.2%} of the full model's MACs: it comes after nearly all of the "
                "network, and is for comparison only."
            )
    return notes
