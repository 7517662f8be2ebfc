"""Means and spreads over the seeds of a project."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from phaze_ee.errors import UsageError
from phaze_ee.evaluation.differences import JudgedAnswer, compare_answers
from phaze_ee.names import FULL_MODEL, POLICY, exit_title, quantity
from phaze_ee.results.base import Record
from phaze_ee.results.benchmark import LatencyReport
from phaze_ee.results.evaluation import EvaluationResults, ExitEvaluation, TargetEvaluation
from phaze_ee.results.policy import DynamicResults
from phaze_ee.results.project import ProjectResults
from phaze_ee.results.seeds import OverSeeds, SeedRun, SeedsExit, SeedsPolicy, SeedsResults, SeedsTarget


@final
@dataclass(frozen=True)
class JudgedSeed:
    """The current results of one seed: its exits, after them the judged policy; its times and its policy if any."""

    exits: EvaluationResults
    latency: LatencyReport | None
    dynamic: DynamicResults | None = None


def summarise(project: str, runs: Sequence[SeedRun], judged: Sequence[JudgedSeed]) -> SeedsResults:
    """Return means and spreads over the judged seeds, and differences to the full model.

    Args:
        project: the project whose seeds these are.
        runs: how far each seed is.
        judged: the evaluated seeds, in order; there may be none.

    Raises:
        UsageError: seeds have other exits or were evaluated on other jets than the first, or a file is damaged.
    """
    notes: list[str] = []
    names: list[str] = []
    if judged:
        _check_alike(project, [seed.exits for seed in judged])
        names = [name for name in judged[0].exits.exits if all(name in seed.exits.exits for seed in judged)]
        without = sum(POLICY not in seed.exits.exits for seed in judged)
        if 0 < without < len(judged):
            notes.append(f"{without} of {len(judged)} seeds have no judged policy, so the policy is left out")
    policy = _policy(judged)
    if policy is not None and not policy.limits and any(seed.dynamic.policy.risks for seed in judged if seed.dynamic):
        notes.append("the policies of the seeds have different targets, so their means are of different promises")
    exits = {name: _exit(name, judged) for name in names}
    first = judged[0].exits if judged else None
    answers = [
        JudgedAnswer(
            exit_title(name),
            project,
            [seed.exits.exits[name] for seed in judged],
            judged[0].exits.jets,
            judged[0].exits.jets_hash,
        )
        for name in sorted(names, key=lambda name: name != FULL_MODEL)
    ]
    return SeedsResults(
        project=project,
        runs=list(runs),
        jets=0 if first is None else first.jets,
        exits=exits,
        differences=compare_answers(answers) if len(answers) > 1 else None,
        policy=policy,
        notes=notes,
    )


def mean_results(name: str, seeds: Sequence[ProjectResults]) -> ProjectResults:
    """Return the means over the seeds of a project: accuracies, AUCs, losses and costs of all exits and the policy.

    What has no mean is empty: confusion matrices, rejections, curves and times. The policy is left out unless all seeds
    have one. Errors are those of one training.

    Raises:
        UsageError: seeds have other exits or were evaluated on other jets than the first.
    """
    first, dynamics = seeds[0], [seed.dynamic for seed in seeds]
    _check_alike(name, [seed.evaluation for seed in seeds])
    exits = {exit_: _mean_exit([seed.evaluation.exits[exit_] for seed in seeds]) for exit_ in first.evaluation.exits}
    return ProjectResults(
        name,
        first.evaluation.model_copy(update={"project": name, "exits": exits, "model_hash": None}),
        first.benchmark.model_copy(update={"project": name, "latency": None}),
        _mean_policy([dynamic for dynamic in dynamics if dynamic is not None]) if None not in dynamics else None,
        tuple(seeds),
    )


def over_seeds(values: Sequence[float]) -> OverSeeds:
    """Return the mean and the standard deviation of a quantity."""
    spread = float(np.std(values, ddof=1)) if min(values) < max(values) else 0.0  # without rounding of equal values
    return OverSeeds(values=list(values), mean=float(np.mean(values)), spread=spread)


def _mean_exit(exits: Sequence[ExitEvaluation]) -> ExitEvaluation:
    names = ("accuracy", "accuracy_error", "roc_auc", "loss", "expected_calibration_error", "mean_macs", "macs_share")
    nothing = {"right_only_here": None, "right_only_in_full": None, "right_jets": None, "targets": None}
    empty: dict[str, list[object]] = {
        name: [] for name in ("confidence_bins", "confusion_matrix", "rejections", "roc_curves")
    }
    return exits[0].model_copy(update={**_means(exits, names), **nothing, **empty})


def _mean_policy(dynamics: Sequence[DynamicResults]) -> DynamicResults | None:
    """Return the mean policy; its curves and its sequence are left out. None if a file is of version 0.1."""
    mixtures = [dynamic.mixture for dynamic in dynamics if dynamic.mixture is not None]
    if len(mixtures) < len(dynamics):
        return None
    first, policies = dynamics[0], [dynamic.policy for dynamic in dynamics]
    shares = np.mean([policy.exit_fractions for policy in policies], axis=0).tolist()
    names = ("mean_macs", "macs_share", "accuracy", "accuracy_error")
    exits = {}
    for name, one in first.exits.items():
        means = _means([dynamic.exits[name].all_leave for dynamic in dynamics], names)
        exits[name] = one.model_copy(update={"all_leave": one.all_leave.model_copy(update=means)})
    moved = sum(dynamic.moved is not None for dynamic in dynamics)
    return first.model_copy(
        update={
            "policy": first.policy.model_copy(update={**_means(policies, names), "exit_fractions": shares}),
            "mixture": _mean_exit(mixtures),
            "exits": exits,
            "curves": [],
            "sequence": [],
            "policy_hash": None,
            "moved": f"moved in {moved} of {quantity(len(dynamics), 'seed')}" if moved else None,
        }
    )


def _means(records: Sequence[Record], names: Iterable[str]) -> dict[str, float | None]:
    """Return the means of some fields; None where a record has None."""
    values = {name: [getattr(record, name) for record in records] for name in names}
    return {name: None if None in found else over_seeds(found).mean for name, found in values.items()}


def _check_alike(project: str, results: Sequence[EvaluationResults]) -> None:
    first = results[0]
    for other in results[1:]:
        if [name for name in first.exits if name != POLICY] != [name for name in other.exits if name != POLICY]:
            raise UsageError(f"seeds of {project} have different exits ({other.project}); run mode train with --seeds")
        if (first.jets, first.jets_hash) != (other.jets, other.jets_hash):
            raise UsageError(
                f"seeds of {project} were evaluated on different jets ({first.project} and {other.project}); run mode "
                "evaluate with --seeds"
            )


def _exit(name: str, judged: Sequence[JudgedSeed]) -> SeedsExit:
    exits = [seed.exits.exits[name] for seed in judged]

    def quantity(of: Callable[[ExitEvaluation], float | None]) -> OverSeeds | None:
        return _if_all([of(exit_) for exit_ in exits])

    rejections = {}
    for place, rejection in enumerate(exits[0].rejections):
        found = _if_all([exit_.rejections[place].value for exit_ in exits])
        if found is not None:
            rejections[rejection.signal] = found
    return SeedsExit(
        accuracy=over_seeds([exit_.accuracy for exit_ in exits]),
        roc_auc=quantity(lambda exit_: exit_.roc_auc),
        loss=over_seeds([exit_.loss for exit_ in exits]),
        expected_calibration_error=over_seeds([exit_.expected_calibration_error for exit_ in exits]),
        mean_macs=quantity(lambda exit_: exit_.mean_macs),
        macs_share=quantity(lambda exit_: exit_.macs_share),
        rejections=rejections,
        jets_per_second=_if_all([_speed(name, seed.latency) for seed in judged]),
        targets=_targets([exit_.targets or {} for exit_ in exits]),
    )


def _targets(seeds: Sequence[Mapping[str, TargetEvaluation]]) -> dict[str, SeedsTarget]:
    """Return the targets that all seeds have."""
    shared = {name: [own[name] for own in seeds] for name in seeds[0] if all(name in own for own in seeds)}
    return {
        name: SeedsTarget(
            jets=found[0].jets,
            target_spread=found[0].target_spread,
            bias=over_seeds([own.bias for own in found]),
            resolution=over_seeds([own.resolution for own in found]),
            response=_if_all([own.response for own in found]),
            response_resolution=_if_all([own.response_resolution for own in found]),
        )
        for name, found in shared.items()
    }


def _policy(judged: Sequence[JudgedSeed]) -> SeedsPolicy | None:
    """Return the policies of all seeds; None if there are no seeds, or one has no judged policy."""
    dynamics = [seed.dynamic for seed in judged if seed.dynamic is not None]
    if not dynamics or len(dynamics) < len(judged):
        return None
    policies = [dynamic.policy for dynamic in dynamics]
    shares = [None if dynamic.prior is None else dynamic.prior.class_shares for dynamic in dynamics]
    priors = [
        dynamic.prior for dynamic in dynamics if dynamic.prior is not None and shares.count(shares[0]) == len(shares)
    ]
    limits = [{risk.name: risk.epsilon for risk in policy.risks} for policy in policies]
    common = limits[0] if all(own == limits[0] for own in limits) else {}
    rates = [{risk.name: risk.rate.value for risk in policy.risks} for policy in policies]
    gains = [None if seed.latency is None or seed.latency.gain is None else seed.latency.gain.speed for seed in judged]
    return SeedsPolicy(
        macs_share=over_seeds([policy.macs_share for policy in policies]),
        accuracy_drop=over_seeds([policy.accuracy_drop for policy in policies]),
        disagreement=over_seeds([policy.disagreement.value for policy in policies]),
        speed=_if_all(gains),
        risks={name: over_seeds([own[name] for own in rates]) for name in common},
        limits=common,
        class_shares=shares[0] if priors else None,
        prior_share=_if_all([prior.cost_share for prior in priors]),
        prior_accuracy=_if_all([prior.accuracy for prior in priors]),
        prior_full_accuracy=_if_all([prior.full_accuracy for prior in priors]),
    )


def _if_all(values: Sequence[float | None]) -> OverSeeds | None:
    known = [value for value in values if value is not None]
    return over_seeds(known) if known and len(known) == len(values) else None


def _speed(name: str, latency: LatencyReport | None) -> float | None:
    """Return the jets per second of an exit or the policy in the largest batches; None if they were not measured."""
    if latency is None:
        return None
    entries = latency.chosen if name == POLICY else [entry for entry in latency.entries if entry.name == name]
    largest = max(entries, key=lambda entry: entry.batch_size, default=None)
    return None if largest is None else largest.jets_per_second
