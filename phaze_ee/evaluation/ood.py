"""Do the exits notice jets of another kind? Scores of out-of-distribution (OOD) jets against the project's own."""

from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int

from phaze_ee.errors import DataError
from phaze_ee.evaluation.metrics import check_finite
from phaze_ee.evaluation.ood_scores import OOD_SCORES, OODScore
from phaze_ee.evaluation.operating_point import fraction
from phaze_ee.exits.policies import ExitPolicy, exit_index, temper
from phaze_ee.exits.policy_file import ExitPolicyFile
from phaze_ee.names import exit_names
from phaze_ee.results.evaluation import EvaluationResults
from phaze_ee.results.ood import OODDetection, OODPolicy, OODResults
from phaze_ee.results.policy import Fraction
from phaze_ee.stats import share_below
from phaze_ee.types import Predictions

FEWEST_JETS = 10
_FEW_JETS = 100
_BINS = 40
_RANGE = (0.005, 0.995)  # quantiles between which the histograms' bins lie

FloatArray = npt.NDArray[np.float64]


def evaluate_ood(
    own: Predictions,
    ood: Predictions,
    ood_files: Sequence[Path],
    policy_file: ExitPolicyFile | None,
    evaluation: EvaluationResults,
) -> OODResults:
    """Judge all scores at all exits, and by the policy at the exit where each jet leaves.

    Args:
        own: the answers for the project's jets; what they are is not looked at.
        ood: the answers of the same network for jets of another kind, with or without labels.
        ood_files: where these come from.
        policy_file: made for this model; None: there is none.
        evaluation: of the project's jets; says where they come from.

    Raises:
        DataError: one of the samples has fewer than ten jets.
        RunError: a logit is not finite.
    """
    samples = (_Sample(own, "jets of the project"), _Sample(ood, "OOD jets"))
    names = own.exit_names
    return OODResults(
        project=evaluation.project,
        model=evaluation.model,
        model_hash=evaluation.model_hash,
        jets=len(own),
        files=evaluation.files,
        ood_jets=len(ood),
        ood_files=[str(path) for path in ood_files],
        exits={name: _at_exit(samples, index) for index, name in enumerate(names)},
        policy=None if policy_file is None else _by_policy(samples, policy_file),
        notes=_notes(samples, evaluation.files, ood_files),
    )


def auroc(own_N: Float[FloatArray, " N"], ood_M: Float[FloatArray, " M"]) -> tuple[float, float]:
    """Return the probability that an OOD jet has the larger score, ties counted half, and its standard error.

    The error is DeLong's (Biometrics 44 (1988) 837), from ranks as in Sun and Xu (IEEE Signal Process. Lett. 21
    (2014) 1389). It holds for many jets, and is 0 where the samples do not overlap.
    """
    own_below_M, ood_below_N = share_below(own_N, ood_M), share_below(ood_M, own_N)
    variance = own_below_M.var(ddof=1) / len(ood_M) + ood_below_N.var(ddof=1) / len(own_N)
    return float(own_below_M.mean()), float(np.sqrt(variance))


def detection(own_N: Float[FloatArray, " N"], ood_M: Float[FloatArray, " M"]) -> OODDetection:
    """Judge a score by its values for the project's jets and for OOD jets."""
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


def _histogram(value_N: FloatArray, edges: FloatArray) -> list[int]:
    counts: list[int] = np.histogram(value_N.clip(edges[0], edges[-1]), edges)[0].tolist()
    return counts


@final
class _Sample:
    """The answers of all exits for the jets of one kind, checked."""

    def __init__(self, predictions: Predictions, kind: str) -> None:
        if len(predictions) < FEWEST_JETS:
            raise DataError(
                f"there are {len(predictions)} {kind}, too few to judge by: give files with at least {FEWEST_JETS}"
            )
        for logits_NK in predictions.logits_ENK:
            check_finite(logits_NK)
        self.kind = kind
        self.answers = predictions
        self.logits_ENK = predictions.logits_ENK.astype(np.float64)

    def __len__(self) -> int:
        return len(self.answers)

    @property
    def exits(self) -> int:
        """How many exits there are, the full model included."""
        return len(self.logits_ENK)

    def exit_index(self, policy: ExitPolicy) -> Int[npt.NDArray[np.int64], " N"]:
        # In single precision, as the policy is judged everywhere else.
        logits_ENK = temper(policy, torch.from_numpy(self.answers.logits_ENK))
        index_N: npt.NDArray[np.int64] = exit_index(policy, logits_ENK).numpy()
        return index_N


_Samples = tuple[_Sample, _Sample]


def _at_exit(samples: _Samples, exit_: int) -> dict[str, OODDetection]:
    own, ood = (sample.logits_ENK for sample in samples)
    return {
        name: detection(score(own, exit_), score(ood, exit_))
        for name, score in OOD_SCORES.items()
        if score.exists(exit_, len(own))
    }


def _by_policy(samples: _Samples, policy_file: ExitPolicyFile) -> OODPolicy:
    policy = policy_file.policy()
    policy.check(samples[0].exits - 1)
    own_N, ood_M = (sample.exit_index(policy) for sample in samples)
    used = np.union1d(own_N, ood_M)
    scores = {
        name: detection(*_where_jets_leave(score, samples, own_N, ood_M))
        for name, score in OOD_SCORES.items()
        if not score.needs_full_model and all(score.exists(int(exit_), samples[0].exits) for exit_ in used)
    }
    own_exits, ood_exits = (_shares(index, samples[0].exits) for index in (own_N, ood_M))
    return OODPolicy(score=policy.score.name, exits=own_exits, ood_exits=ood_exits, scores=scores)


def _where_jets_leave(
    score: OODScore,
    samples: _Samples,
    own_exit_N: Int[npt.NDArray[np.int64], " N"],
    ood_exit_M: Int[npt.NDArray[np.int64], " M"],
) -> tuple[FloatArray, FloatArray]:
    """Return the score of each jet at its exit, less the mean of all the project's jets there.

    Without that the scales of the exits would mix: the logits of one exit may be twice those of another.
    """
    own_N, ood_M = (np.empty(len(sample)) for sample in samples)
    for exit_ in np.union1d(own_exit_N, ood_exit_M):
        own_all_N, ood_all_M = (score(sample.logits_ENK, int(exit_)) for sample in samples)
        own_N[own_exit_N == exit_] = (own_all_N - own_all_N.mean())[own_exit_N == exit_]
        ood_M[ood_exit_M == exit_] = (ood_all_M - own_all_N.mean())[ood_exit_M == exit_]
    return own_N, ood_M


def _shares(exit_N: Int[npt.NDArray[np.int64], " N"], exits: int) -> dict[str, Fraction]:
    return {name: fraction(exit_N == index) for index, name in enumerate(exit_names(exits))}


def _notes(samples: _Samples, files: Sequence[str], ood_files: Sequence[Path]) -> list[str]:
    notes = [
        f"only {len(sample)} {sample.kind}: the errors of the AUROCs are too rough to rely on"
        for sample in samples
        if len(sample) < _FEW_JETS
    ]
    if samples[0].exits == 1:
        notes.append("the network has no exits: there is only the full model to judge")
    common = {Path(path).resolve() for path in files} & {path.resolve() for path in ood_files}
    if common:
        notes.append(f"{min(common)} is a file of the project's own jets too: these jets cannot be told apart")
    return notes
