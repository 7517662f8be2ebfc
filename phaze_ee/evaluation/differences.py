"""Compares answers on the same jets: exits with their full model, projects with each other, with seeds or without."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot
from typing import final

import numpy as np

from phaze_ee.names import FULL_MODEL, exit_title
from phaze_ee.paired import Difference, significant, unpack_bits
from phaze_ee.results.differences import ComparedAnswer, Contrast, Differences
from phaze_ee.results.evaluation import ExitEvaluation
from phaze_ee.results.project import ProjectResults
from phaze_ee.shapes import Bool


@final
@dataclass(frozen=True)
class JudgedAnswer:
    """An exit, a full model or a policy of one or several trainings, judged on some jets.

    Attributes:
        name: in tables and figures.
        project: whose trainings these are; answers of one project are of the same trainings.
        exits: one evaluation for each training.
        jets: how many jets there are.
        jets_hash: which jets they are; None if unknown.
    """

    name: str
    project: str
    exits: Sequence[ExitEvaluation]
    jets: int
    jets_hash: str | None

    @property
    def accuracy_S(self) -> list[float]:
        """The accuracy of each training."""
        return [exit_.accuracy for exit_ in self.exits]

    def right_SN(self) -> Bool[np.ndarray, "S N"]:
        """Return which jets each training has right; all must have ``right_jets``."""
        where = f"project {self.project}"
        return np.stack([unpack_bits(exit_.right_jets or "", self.jets, where) for exit_ in self.exits])


def compare_answers(answers: Sequence[JudgedAnswer]) -> Differences:
    """Compare answers with the first of them.

    Without seeds, two answers for the same jets are compared by McNemar's test, with seeds by
    :meth:`phaze_ee.paired.Difference.over_seeds`. Answers for other jets, or of files without ``right_jets``, have the
    error of independent accuracies. All p-values together are corrected by Holm's procedure.

    Raises:
        UsageError: a results file is damaged.
    """
    reference, *others = answers
    pairs = [(_can_pair(answer, reference), answer) for answer in others]
    found = [(_difference(answer, reference, paired=paired), paired) for paired, answer in pairs]
    rejected = significant([difference.p_value for difference, _ in found])
    contrasts = [
        Contrast(
            value=difference.value,
            jets_error=difference.jets_error,
            spread=difference.spread,
            p_value=difference.p_value,
            significant=clear and difference.above_floor,
            paired=paired,
        )
        for (difference, paired), clear in zip(found, rejected, strict=True)
    ]
    counts = {answer.jets for answer in answers}
    return Differences(
        reference=reference.name,
        jets=counts.pop() if len(counts) == 1 else 0,
        answers=[_compared(*row) for row in zip(answers, [None, *contrasts], strict=True)],
    )


def compare_exits(results: ProjectResults) -> Differences | None:
    """Compare the exits and the policy of a project with its full model.

    Returns:
        None if there are no exits, or if the file is older and does not say which jets are right.

    Raises:
        UsageError: the file is damaged.
    """
    found = results.with_policy.exits
    names = sorted(found, key=lambda name: name != FULL_MODEL)
    evaluation = results.evaluation
    if len(names) < 2 or any(exit_.right_jets is None for exit_ in found.values()):
        return None
    return compare_answers(
        [
            JudgedAnswer(exit_title(name), results.name, [found[name]], evaluation.jets, evaluation.jets_hash)
            for name in names
        ]
    )


def compare_projects(projects: Sequence[ProjectResults], exit_name: str) -> Differences | None:
    """Compare full models or policies of projects with that of the first project.

    Args:
        projects: their results, or means over their seeds.
        exit_name: the name of the full model or of the policy; projects without it are left out.

    Returns:
        None if the first project or all others lack it.

    Raises:
        UsageError: a results file is damaged.
    """
    answers = [
        JudgedAnswer(
            project.name,
            project.name,
            [run.with_policy.exits[exit_name] for run in project.seeds or (project,)],
            project.evaluation.jets,
            project.evaluation.jets_hash,
        )
        for project in projects
        if exit_name in project.with_policy.exits
    ]
    if len(answers) < 2 or answers[0].project != projects[0].name:
        return None
    return compare_answers(answers)


def _can_pair(answer: JudgedAnswer, reference: JudgedAnswer) -> bool:
    known = all(exit_.right_jets is not None for exit_ in (*answer.exits, *reference.exits))
    same = answer.project == reference.project or answer.jets_hash == reference.jets_hash is not None
    return known and same and answer.jets == reference.jets


def _difference(answer: JudgedAnswer, reference: JudgedAnswer, *, paired: bool) -> Difference:
    one_training = len(answer.exits) == len(reference.exits) == 1
    if paired and one_training:
        return Difference.of_models(answer.right_SN()[0], reference.right_SN()[0])
    if paired:
        same = answer.project == reference.project
        return Difference.over_seeds(answer.right_SN(), reference.right_SN(), same_seeds=same)
    errors = (float(np.mean([exit_.accuracy_error for exit_ in one.exits])) for one in (answer, reference))
    return Difference.unpaired(np.array(answer.accuracy_S), np.array(reference.accuracy_S), hypot(*errors))


def _compared(answer: JudgedAnswer, difference: Contrast | None) -> ComparedAnswer:
    seeds = answer.accuracy_S
    several = len(seeds) > 1
    return ComparedAnswer(
        name=answer.name,
        accuracy=float(np.mean(seeds)),
        accuracy_error=float(np.mean([exit_.accuracy_error for exit_ in answer.exits])),
        seeds=seeds if several else [],
        spread=float(np.std(seeds, ddof=1)) if several else None,
        difference=difference,
    )
