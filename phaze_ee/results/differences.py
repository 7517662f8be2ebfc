"""Differences of accuracies to a reference on the same jets, with the errors that follow from it."""

from phaze_ee.results.base import Record, ResultsFile


class Contrast(Record):
    """An accuracy minus that of the reference.

    ``jets_error`` is its standard error for the finite number of jets. If both were judged on the same jets, ``paired``
    is true, and the error is that of a paired difference. ``spread`` is the standard deviation over seeds of the
    difference of one training to another; None without seeds. ``p_value`` is that of equal accuracies
    (:class:`phaze_ee.paired.Difference`). ``significant``: Holm's procedure rejects this for all differences of the
    comparison together, and the difference is larger than ``spread``.
    """

    value: float
    jets_error: float
    spread: float | None
    p_value: float
    significant: bool
    paired: bool


class ComparedAnswer(Record):
    """An exit, a full model or a policy: its accuracy, and the difference to the reference.

    ``accuracy_error`` is the binomial error of one training. With seeds, ``accuracy`` is the mean over them, ``seeds``
    are the single accuracies, and ``spread`` is their standard deviation (n - 1 in the denominator); else None.
    ``difference`` is None for the reference.
    """

    name: str
    accuracy: float
    accuracy_error: float
    seeds: list[float]
    spread: float | None
    difference: Contrast | None


class Differences(Record):
    """Answers beside a reference, which is one of them. ``jets`` is 0 if they were judged on different numbers."""

    reference: str
    jets: int
    answers: list[ComparedAnswer]

    @property
    def contrasts(self) -> list[Contrast]:
        """All differences."""
        return [answer.difference for answer in self.answers if answer.difference is not None]


class ComparisonResults(ResultsFile):
    """``comparison_results.json`` of mode compare: full models and policies beside those of the first project."""

    projects: list[str]
    full_models: Differences
    policies: Differences | None
