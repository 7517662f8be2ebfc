"""Mode benchmark: what it costs to leave at each exit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from phaze_ee.atomic import check_can_write
from phaze_ee.benchmark.cost import COUNTER, UNIT, ExitCost, exit_costs, full_model_cost
from phaze_ee.benchmark.latency import measure_latency, timed_jets
from phaze_ee.benchmark.precisions import compare_precisions
from phaze_ee.data.files import fingerprint
from phaze_ee.data.schema import DataSchema
from phaze_ee.errors import DataError, UsageError
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.policy_file import ExitPolicyFile
from phaze_ee.models.precision import checked_precision
from phaze_ee.models.tagger import Tagger
from phaze_ee.modes.console import say_in_columns, say_new, say_where, show, show_details, show_notes
from phaze_ee.modes.jets import judging_schema
from phaze_ee.modes.policies import policy_for
from phaze_ee.modes.session import Session
from phaze_ee.names import exit_title, quantity
from phaze_ee.results.benchmark import BenchmarkResults, ExitBenchmark, LatencyReport, NetworkCost
from phaze_ee.results.evaluation import EvaluationResults, ExitEvaluation
from phaze_ee.results.policy import DynamicResults
from phaze_ee.tables.benchmark import (
    benchmark_table,
    cost_sentences,
    cost_table,
    curve_latency_table,
    head_table,
    latency_table,
    precision_table,
)

_NEXT_TO_NOTHING = 0.01
_TIMED_JETS = 512
_TIMED_JETS_OF_PRIOR = 4096  # a class with a share of 0.1 % has some
_SECONDS = 0.25  # for each exit, policy and batch size
# How notes begin that explain the figures. They are printed with --details, and are always in the results.
_EXPLAIN = ("MACs are", "weaver's counter", "Spent MACs")
_CURVE_POINTS = 4  # timed of each cost-accuracy curve


def run(session: Session) -> None:
    """Count the cost of each exit, time it on some jets if there are any, and write benchmark_results.json."""
    check_can_write(session.project.results)
    tagger, schema, source, model_hash = _network(session)
    lengths = [own.length for own in schema.collections]
    costs = exit_costs(tagger, particles=lengths)
    full = full_model_cost(tagger, particles=lengths)
    timed = _latency(session, tagger, schema, model_hash)
    evaluations, notes = _evaluations(session, [cost.name for cost in costs], model_hash)
    results = BenchmarkResults(
        exits={cost.name: _exit_benchmark(cost, full, evaluations.get(cost.name)) for cost in [*costs[:-1], full]},
        project=str(session.project),
        model=source,
        model_hash=model_hash,
        data_hash=timed.data_hash,
        history_hash=session.project.history_hash,
        policy_hash=timed.policy_hash,
        particles=sum(lengths),
        input_channels=tagger.backbone.input_channels,
        unit=UNIT,
        with_exits=NetworkCost(flops=costs[-1].weaver_macs, macs=costs[-1].macs, params=costs[-1].parameters),
        flops_counter=COUNTER,
        latency=timed.report,
        policy_accuracy=_policy_accuracy(session, timed),
        notes=[*notes, *timed.notes, *cost_notes([*costs[:-1], full], sum(lengths))],
    )
    results.write(session.project.benchmark_results)
    title = session.model.title if session.has_model else "not trained yet"
    say_new(f"Model:  {session.project}, {title}")
    _show(session, results, leaves=timed.leaves)


def _show(session: Session, results: BenchmarkResults, *, leaves: bool) -> None:
    """Print one table of costs and times, and what the policy saves; with ``--details`` all tables."""
    latency, details = results.latency, session.request.details
    show(benchmark_table(results) if latency is None else cost_table(results))
    if latency is not None and (details or len(latency.precisions) > 1):
        show(precision_table(latency))
    if details and latency is not None:
        curves = [curve_latency_table(latency)] if latency.curves else []
        show_details([benchmark_table(results), latency_table(latency), *curves], wanted=True)
    show_details([head_table(results)] if len(results.exits) > 1 else [], wanted=details)
    show_notes(results.notes if details else [note for note in results.notes if not note.startswith(_EXPLAIN)])
    for sentence in cost_sentences(results, sizes=details or latency is None, leaves=leaves):
        say_in_columns(sentence)
    say_where([session.project.benchmark_results], details=details)


@dataclass(frozen=True)
class _Timed:
    """Measured times, with the hashes of the timed jets and policy; or the reason why there are none."""

    report: LatencyReport | None
    notes: list[str]
    data_hash: str | None = None
    policy_hash: str | None = None
    leaves: bool = True  # False: the policy lets no jet leave


def _network(session: Session) -> tuple[Tagger, DataSchema, str, str | None]:
    """Return the network, its data configuration, its origin and the hash of its weights; costs need no weights."""
    if session.has_model:
        model = session.model
        return model.tagger, model.schema, model.source, model.hash
    return session.build(session.schema).eval(), session.schema, f"{session.project.config}, not trained yet", None


def _latency(session: Session, tagger: Tagger, schema: DataSchema, model_hash: str | None) -> _Timed:
    """Return the times of the form that the engine runs, and notes; without jets no times, and the reason."""
    policy = policy_for(session.project, session.request.policy, model_hash, session.options.precision)
    try:
        option = session.judged_files
        files, schema = session.files(option), judging_schema(session, schema, option)
        prior = None if policy is None or "prior" not in policy.file.realised else policy.file.realised["prior"]
        shares = None if prior is None else prior.class_shares
        count = _TIMED_JETS if shares is None else _TIMED_JETS_OF_PRIOR
        inputs, data_hash = timed_jets(schema, files, count, shares), fingerprint(files, schema)
    except (UsageError, DataError) as error:
        return _Timed(None, [f"no times were measured: {error}"])
    device = session.device
    precision = checked_precision(session.options.precision, device)
    form, jets = tagger.to(device).fastest_form(), inputs.to(device).ragged()
    report = measure_latency(
        form,
        jets,
        policy=None if policy is None else policy.file.policy(),
        curves=[] if policy is None else _some_points(policy.file),
        threads=torch.get_num_threads(),
        seconds=_SECONDS,
        precision=precision,
    )
    precisions = compare_precisions(form, jets, threads=torch.get_num_threads(), seconds=_SECONDS)
    report = report.model_copy(update={"precisions": precisions})
    spent = (
        "Spent MACs are those of the form that runs, with each jet's own number of particles. Times are those of the "
        "engine when every jet leaves at that exit, or where the policy says. The full model is timed without the exit "
        "heads, unless its answer needs them (exit_link = 'boosted')."
    )
    report = report.model_copy(update={"class_shares": shares})
    moved = [] if policy is None or policy.file.move is None else [f"the policy has {policy.file.move}"]
    if policy is None:
        return _Timed(report, [spent], data_hash)
    return _Timed(report, [*moved, spent], data_hash, policy.hash, policy.file.lets_jets_leave)


def _some_points(policy_file: ExitPolicyFile) -> list[ThresholdPolicy]:
    """Return a few policies of each cost-accuracy curve, evenly spaced from the cheapest to the most expensive."""
    return [
        ThresholdPolicy(curve.score, curve.thresholds[place], policy_file.temperatures, precision=policy_file.precision)
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
    if evaluation.precision not in (None, session.options.precision):
        return {}, [
            f"{path} was made with precision = {evaluation.precision!r} and is not used: run mode 'evaluate', then "
            "this mode again"
        ]
    return evaluation.exits, []


def _policy_accuracy(session: Session, timed: _Timed) -> float | None:
    """Return the accuracy of the timed policy, if it has been judged on the files of the timed jets."""
    path = session.project.dynamic_results
    if timed.policy_hash is None or not path.is_file():
        return None
    dynamic = DynamicResults.read(path, made_by="evaluate")
    judged = (dynamic.policy_hash, dynamic.data_hash) == (timed.policy_hash, timed.data_hash)
    return dynamic.policy.accuracy if judged else None


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


def cost_notes(costs: Sequence[ExitCost], particles: int) -> list[str]:
    """Return what a reader needs to know about the figures for one padded jet, the full model's being the last."""
    full, jet = costs[-1], f"for one jet padded to {quantity(particles, 'particle')}"
    excess = ", ".join(f"{exit_title(cost.name)} {cost.weaver_macs / cost.macs - 1:+.1%}" for cost in costs)
    notes = [
        "MACs are multiply-accumulates (two floating-point operations each) of all matrix products for one padded jet, "
        "including neighbour search and attention. Those of an exit are cumulative and include the heads of earlier "
        "exits; those of the full model include no head that its answer does not need.",
        f"weaver's counter ('flops', with count_functional=False) differs from this by: {excess}. It adds BatchNorm, "
        "activations and biases, and omits products outside layers: the neighbour search, and the attention of a "
        "transformer with its projection.",
    ]
    for cost in costs[:-1]:
        saved = 1 - cost.macs / full.macs
        if saved < 0:
            notes.append(
                f"{exit_title(cost.name)} takes {-saved:.1%} more MACs than the full model {jet}, with the heads of "
                "earlier exits, and is for comparison only."
            )
        elif saved < _NEXT_TO_NOTHING:
            notes.append(
                f"{exit_title(cost.name)} saves {saved:.2%} of the full model's MACs {jet}: it comes after nearly "
                "all of the network, and is for comparison only."
            )
    return notes
