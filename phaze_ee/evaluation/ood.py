"""Whether the exits notice out-of-distribution (OOD) jets: their scores and those of the project's own."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from phaze_ee.errors import DataError
from phaze_ee.evaluation.ood_scores import OOD_SCORES, OODScore
from phaze_ee.evaluation.operating_point import fraction
from phaze_ee.exits.answers import Answers, ExitIndex, check_finite
from phaze_ee.exits.policy_file import ExitPolicyFile, KeptPolicy
from phaze_ee.names import exit_names
from phaze_ee.results.evaluation import EvaluationResults
from phaze_ee.results.ood import OODDetection, OODPolicy, OODResults
from phaze_ee.results.policy import Fraction
from phaze_ee.shapes import Float
from phaze_ee.stats import share_below

LEAST_JETS = 10
_FEW_JETS = 100
_BINS = 40
_RANGE = (0.005, 0.995)  # quantiles between which the bins of the histograms are
_OWN, _OOD = "jets of the project", "OOD jets"


def evaluate_ood(
    own: Answers,
    ood: Answers,
    ood_files: Sequence[Path],
    kept: KeptPolicy | None,
    evaluation: EvaluationResults,
) -> OODResults:
    """Evaluate all scores at all exits, and at the exit where each jet leaves by the policy.

    Args:
        own: answers for the project's own jets; labels are not used.
        ood: answers of the same network for out-of-distribution jets, with or without labels.
        ood_files: the files of these jets.
        kept: a policy for this model; None if there is none.
        evaluation: of the project's jets, for the names of project, model and files.

    Raises:
        DataError: one of the samples has fewer than ten jets.
        RunError: a logit is not finite.
        UsageError: the policy has another number of exits than the tagger.
    """
    _check(own, _OWN)
    _check(ood, _OOD)
    policy = None if kept is None else _by_policy(own, ood, kept.file)
    own_double, ood_double = own.double(), ood.double()
    return OODResults(
        project=evaluation.project,
        model=evaluation.model,
        model_hash=evaluation.model_hash,
        data_hash=evaluation.data_hash,
        history_hash=evaluation.history_hash,
        policy_hash=None if kept is None else kept.hash,
        jets=len(own),
        files=evaluation.files,
        ood_jets=len(ood),
        ood_files=[str(path) for path in ood_files],
        exits={name: _at_exit(own_double, ood_double, index) for index, name in enumerate(own.exit_names)},
        policy=policy,
        notes=_notes(own, ood, evaluation.files, ood_files),
    )


def auroc(own_N: Float[np.ndarray, " N"], ood_M: Float[np.ndarray, " M"]) -> tuple[float, float]:
    """Return the probability that an OOD jet has the larger score, with ties counted half, and its standard error.

    The error is that of DeLong et al. (Biometrics 44 (1988) 837), computed from ranks as in Sun and Xu (IEEE Signal
    Process. Lett. 21 (2014) 1389). It is asymptotic, and 0 if the samples do not overlap.
    """
    own_below_M, ood_below_N = share_below(own_N, ood_M), share_below(ood_M, own_N)
    variance = own_below_M.var(ddof=1) / len(ood_M) + ood_below_N.var(ddof=1) / len(own_N)
    return float(own_below_M.mean()), float(np.sqrt(variance))


def detection(own_N: Float[np.ndarray, " N"], ood_M: Float[np.ndarray, " M"]) -> OODDetection:
    """Evaluate a score by its values for N of the project's jets and M OOD jets."""
    area, error = auroc(own_N, ood_M)
    mean = float(own_N.mean())
    first, last = np.quantile(np.concatenate([own_N, ood_M]), _RANGE) - mean
    margin = 0.0 if last > first else 0.5  # all jets have the same score
    edges = np.linspace(first - margin, last + margin, _BINS + 1)
    return OODDetection(
        auroc=area,
        auroc_error=error,
        mean=mean,
        edges=edges.tolist(),
        counts=_histogram(own_N - mean, edges),
        ood_counts=_histogram(ood_M - mean, edges),
    )


def _check(answers: Answers, kind: str) -> None:
    if len(answers) < LEAST_JETS:
        raise DataError(f"there are {len(answers)} {kind}, too few to judge by: give files with at least {LEAST_JETS}")
    check_finite(answers.logits_ENK)


def _histogram(value_N: Float[np.ndarray, " N"], edges: Float[np.ndarray, " B+1"]) -> list[int]:
    counts: list[int] = np.histogram(value_N.clip(edges[0], edges[-1]), edges)[0].tolist()
    return counts


def _at_exit(own: Answers, ood: Answers, exit_: int) -> dict[str, OODDetection]:
    return {
        name: detection(score(own.logits_ENK, exit_), score(ood.logits_ENK, exit_))
        for name, score in OOD_SCORES.items()
        if score.exists(exit_, own.exit_count + 1)
    }


def _by_policy(own: Answers, ood: Answers, policy_file: ExitPolicyFile) -> OODPolicy:
    policy = policy_file.policy()
    policy.check(own.exit_count)
    # In single precision, as policies are evaluated everywhere else.
    own_exit_N, ood_exit_M = (answers.tempered(policy.temperatures).exit_index(policy) for answers in (own, ood))
    used = np.union1d(own_exit_N, ood_exit_M)
    own_double, ood_double = own.double(), ood.double()
    scores = {
        name: detection(*_where_jets_leave(score, own_double, ood_double, own_exit_N, ood_exit_M))
        for name, score in OOD_SCORES.items()
        if not score.needs_full_model and all(score.exists(int(exit_), own.exit_count + 1) for exit_ in used)
    }
    own_exits, ood_exits = (_shares(index_N, own.exit_count + 1) for index_N in (own_exit_N, ood_exit_M))
    return OODPolicy(score=policy.score.name, exits=own_exits, ood_exits=ood_exits, scores=scores)


def _where_jets_leave(
    score: OODScore, own: Answers, ood: Answers, own_exit_N: ExitIndex, ood_exit_M: ExitIndex
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " M"]]:
    """Return the score of each jet at its exit, minus the mean score of all the project's jets there.

    The mean is subtracted because scores of different exits have different scales: the logits of one exit may be twice
    those of another.
    """
    own_N, ood_M = np.empty(len(own)), np.empty(len(ood))
    for exit_ in np.union1d(own_exit_N, ood_exit_M):
        own_all_N, ood_all_M = (score(answers.logits_ENK, int(exit_)) for answers in (own, ood))
        own_N[own_exit_N == exit_] = (own_all_N - own_all_N.mean())[own_exit_N == exit_]
        ood_M[ood_exit_M == exit_] = (ood_all_M - own_all_N.mean())[ood_exit_M == exit_]
    return own_N, ood_M


def _shares(exit_index_N: ExitIndex, exits: int) -> dict[str, Fraction]:
    return {name: fraction(exit_index_N == index) for index, name in enumerate(exit_names(exits))}


def _notes(own: Answers, ood: Answers, files: Sequence[str], ood_files: Sequence[Path]) -> list[str]:
    notes = [
        f"only {len(answers)} {kind}: the errors of the AUROCs are too rough to rely on"
        for answers, kind in ((own, _OWN), (ood, _OOD))
        if len(answers) < _FEW_JETS
    ]
    if own.exit_count == 0:
        notes.append("the network has no exits: there is only the full model to judge")
    common = {Path(path).resolve() for path in files} & {path.resolve() for path in ood_files}
    if common:
        notes.append(f"{min(common)} is a file of the project's own jets too: these jets cannot be told apart")
    return notes
